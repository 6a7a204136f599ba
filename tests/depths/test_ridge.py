"""Ridge regression with examples left out."""

import pytest
import torch

from regraft.depths.ridge import STRENGTHS, class_blocks, predict_left_out, single_blocks


def by_hand(features, targets, blocks, strength):
    """Each block predicted by a fit on all other rows: solved anew for each."""
    count, predictions = len(features), torch.zeros_like(targets)
    times = torch.zeros(count, 1, dtype=torch.float64)
    penalty = strength * float((features - features.mean(0)).square().sum()) / count * count
    for block in (row for several in blocks for row in several):
        others = torch.ones(count, dtype=torch.bool)
        others[block] = False
        x, y = features[others], targets[others]
        centred = x - x.mean(0)
        gram = centred.T @ centred + penalty * torch.eye(x.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, centred.T @ (y - y.mean(0)))
        predictions[block] += y.mean(0) + (features[block] - x.mean(0)) @ weights
        times[block] += 1
    return predictions / times


@pytest.mark.parametrize("columns", [6, 60])
@pytest.mark.parametrize("counts", [(8, 8, 8), (4, 9, 15)])
def test_it_is_what_fitting_without_each_block_gives(columns, counts):
    """For wide and narrow features, for classes of equal and of different sizes, with the best of the strengths."""
    torch.manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    features = torch.randn(len(labels), columns, dtype=torch.float64) + 0.5 * labels[:, None]
    targets = torch.nn.functional.one_hot(labels).double()
    blocks = class_blocks(labels)

    left_out = predict_left_out(features, targets, blocks)

    every = [by_hand(features, targets, blocks, strength) for strength in STRENGTHS]
    errors = [float((targets - each).square().sum(1).mean()) for each in every]
    # The block's matrix is made regular by 1e-9; the smallest strengths amplify rounding.
    assert abs(left_out.squared_error - min(errors)) < 1e-6
    torch.testing.assert_close(left_out.predictions, every[errors.index(min(errors))], rtol=0, atol=1e-5)


def test_features_that_say_nothing_are_worth_chance():
    """One left out alone would never be given its own class; one of each class together has no such tilt."""
    labels = torch.arange(60) % 3
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    targets = torch.nn.functional.one_hot(labels).double()

    alone = predict_left_out(1e-9 * features, targets, single_blocks(60)).predictions.argmax(1) == labels
    together = predict_left_out(features, targets, class_blocks(labels)).predictions.argmax(1) == labels

    assert int(alone.sum()) < 12
    assert 12 <= int(together.sum()) <= 30


def test_every_example_is_left_out_and_each_block_has_one_of_each_class():
    """Of a small class some several times; of very many classes a block has some."""
    blocks = class_blocks(torch.tensor([0, 0, 0, 0, 1, 1]))
    assert sorted(set(blocks[0].flatten().tolist())) == list(range(6))
    assert blocks[0].tolist() == [[0, 4], [1, 5], [2, 4], [3, 5]]

    many = class_blocks(torch.arange(200) % 100)
    assert [block.shape for block in many] == [(2, 64), (2, 36)]


def test_equal_features_predict_the_mean():
    """No column has a spread."""
    targets = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    left_out = predict_left_out(torch.ones(4, 3), targets, single_blocks(4))
    torch.testing.assert_close(left_out.predictions[0], torch.tensor([2.0], dtype=torch.float64), rtol=0, atol=1e-6)
