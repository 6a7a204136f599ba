"""Labels as targets."""

import pytest
import torch

from regraft.depths.ridge import LeftOut
from regraft.depths.targets import targets_of
from regraft.errors import DataError


def left_out(targets, predictions):
    predictions = torch.as_tensor(predictions, dtype=torch.float64)
    return LeftOut(predictions, (targets.values - predictions).square().sum(1), 0)


def test_whole_numbers_are_classes_whatever_their_numbers():
    """Accuracy by example, chance by the largest class."""
    targets = targets_of(torch.tensor([7, 7, 9, 7]))

    assert (targets.kind, targets.outputs, targets.chance) == ("classification", 2, 0.75)
    assert targets.scores(left_out(targets, [[1, 0], [0, 1], [0, 1], [1, 0]])).tolist() == [1, 0, 1, 1]
    assert targets.variance == pytest.approx(1 - (0.75**2 + 0.25**2))


def test_rows_of_zeros_and_ones_are_several_labels():
    """The part of them that is right."""
    targets = targets_of(torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]))

    assert targets.kind == "multilabel"
    assert targets.scores(left_out(targets, [[0.9, 0.1, 0.2], [1, 0, 0], [1, 1, 1], [1, 0, 1]])).tolist() == [
        1, pytest.approx(2 / 3), 0, 1,
    ]  # fmt: skip
    assert targets.chance == pytest.approx((0.75 + 0.75 + 0.75) / 3)


def test_fractions_are_numbers_each_column_by_its_own_variance():
    """The explained part."""
    targets = targets_of(torch.tensor([[1.0, 100.0], [2.0, 300.0], [3.0, 200.0], [4.0, 400.0]]))

    assert (targets.kind, targets.outputs, targets.variance) == ("regression", 2, pytest.approx(2.0))
    assert targets.scores(left_out(targets, targets.values)).mean() == 1
    assert targets.scores(left_out(targets, 0 * targets.values)).mean() == pytest.approx(0)


def test_the_task_may_be_given():
    """Class numbers as numbers."""
    assert targets_of(torch.tensor([1, 2, 3, 4]), "regression").kind == "regression"
    with pytest.raises(DataError, match="no advice for the task 'segmentation'"):
        targets_of(torch.tensor([1, 2, 3, 4]), "segmentation")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(9, dtype=torch.long), "one class only"),
        (torch.ones(9), "same label"),
        (torch.tensor([1.0, torch.nan, 2.0, 3.0]), "not a finite number"),
        (torch.zeros(9, 4, 4), "shape 4 × 4"),
        (torch.tensor([1, 2]), "four or more"),
        ({"kind": torch.tensor([1, 2, 3, 4])}, "The labels are a dict"),
    ],
)
def test_what_cannot_be_learnt_is_refused(labels, message):
    """Before anything is computed."""
    with pytest.raises(DataError, match=message):
        targets_of(labels)
