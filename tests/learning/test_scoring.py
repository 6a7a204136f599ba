import json
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.examples import TensorExamples, as_examples
from regraft.learning.learner import Learner
from regraft.learning.request import Request
from regraft.learning.scoring import Score, score
from small_models import TwoParts, objective_of, three_classes

CROSS_ENTROPY = objective_of()


def given_logits(logits):
    """A learner that answers each input number with that row of the logits."""
    model = nn.Embedding.from_pretrained(logits)
    return Learner(model)


def test_accuracy_loss_and_confusion_are_counted_by_hand():
    logits = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0], [3.0, 0, 0], [0, 3.0, 0]])
    labels = torch.tensor([0, 1, 2, 1, 1])
    got = score(given_logits(logits), TensorExamples(torch.arange(5), labels), CROSS_ENTROPY, batch_size=2)
    assert got.accuracy == 4 / 5
    assert got.standard_error == pytest.approx(sqrt(0.8 * 0.2 / 5))
    assert got.confusion == ((1, 0, 0), (1, 2, 0), (0, 0, 1))
    assert got.count == 5
    assert got.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-6)  # sums of batches in float64


def test_positions_without_a_label_are_not_counted():
    logits = torch.zeros(2, 3, 4)
    logits[:, 1] = 1
    labels = torch.tensor([[1, 1, -100, 0], [1, -100, -100, 1]])
    got = score(Learner(nn.Identity()), TensorExamples(logits, labels), CROSS_ENTROPY, batch_size=2)
    assert (got.count, got.accuracy) == (5, 4 / 5)


def test_numbers_have_a_loss_and_no_accuracy():
    examples = TensorExamples(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0]))
    got = score(Learner(nn.Identity()), examples, objective_of("mean_squared_error"), batch_size=1)
    assert (got.accuracy, got.count, got.loss) == (None, 2, 2.0)
    assert got.metrics == pytest.approx({"mean_absolute_error": 1.0, "r2": 1 - 4 / 4.5})
    assert str(got) == "loss 2.0000 (n=2), mean_absolute_error 1.0000, r2 0.1111"


def test_scoring_changes_nothing():
    model = TwoParts().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    score(Learner(model), as_examples(three_classes()), CROSS_ENTROPY, batch_size=32)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_batch_size_does_not_matter():
    scores = [score(Learner(TwoParts()), as_examples(three_classes()), CROSS_ENTROPY, batch_size=n) for n in (7, 90)]
    assert scores[0].confusion == scores[1].confusion
    assert scores[0].loss == pytest.approx(scores[1].loss, rel=1e-6)  # other batch size, other order of sums


def test_a_score_is_plain_data_and_reads_as_a_line():
    got = Score(0.9, 0.03, 100, 0.25, ((45, 5), (5, 45)))
    assert json.loads(json.dumps(got.to_dict()))["confusion"] == [[45, 5], [5, 45]]
    assert str(got) == "accuracy 0.9000 ± 0.0300 (n=100), loss 0.2500"


@pytest.mark.parametrize("batch_size", [2, 3, 12])
def test_the_loss_is_that_of_the_whole_set_whatever_the_batches(batch_size):
    """Class weights and ignored positions count as the loss counts them, not batch by batch."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(12, 3, generator=generator), torch.arange(12) // 4
    for loss in (nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 5.0])), nn.CrossEntropyLoss(ignore_index=1)):
        got = score(
            given_logits(logits), TensorExamples(torch.arange(12), labels), Request(loss=loss), batch_size=batch_size
        )
        assert got.loss == pytest.approx(float(loss(logits, labels)), rel=1e-6)  # sums of batches in float64

    tokens = torch.randn(12, 3, 4, generator=generator)
    tags = torch.randint(0, 3, (12, 4), generator=generator)
    tags[:6, 1:] = -100
    got = score(Learner(nn.Identity()), TensorExamples(tokens, tags), CROSS_ENTROPY, batch_size=batch_size)
    assert got.loss == pytest.approx(float(F.cross_entropy(tokens, tags)), rel=1e-6)


def test_token_tags_are_scored_with_their_classes_last():
    logits = torch.randn(6, 7, 3, generator=torch.Generator().manual_seed(0))
    tags = torch.arange(42).reshape(6, 7) % 3
    tags[:, 5:] = -100
    got = score(Learner(nn.Identity()), TensorExamples(logits, tags), Request(), batch_size=4)
    known = tags >= 0
    assert got.accuracy == pytest.approx(float((logits.argmax(-1) == tags)[known].double().mean()))
    assert got.count == int(known.sum())


def test_an_undecided_class_axis_has_no_accuracy_under_a_loss_of_ones_own():
    """Along the wrong axis a number would be told that nobody asked for."""
    tags = torch.arange(30).reshape(6, 5) % 5

    def by_token(outputs, labels):
        return F.cross_entropy(outputs.flatten(0, 1), labels.flatten())

    got = score(
        Learner(nn.Identity()), TensorExamples(torch.randn(6, 5, 5), tags), Request(loss=by_token), batch_size=6
    )
    assert got.accuracy is None
    assert got.confusion == ()
