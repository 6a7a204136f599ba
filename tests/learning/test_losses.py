import gc
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.errors import TrainError
from regraft.learning import losses
from regraft.learning.losses import as_loss, logits_of

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_cross_entropy_takes_any_whole_numbers(dtype):
    labels = torch.tensor([0, 2])
    assert torch.equal(as_loss("cross_entropy")(LOGITS, labels.to(dtype)), F.cross_entropy(LOGITS, labels))


def test_cross_entropy_takes_probabilities():
    wanted = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    assert torch.equal(as_loss("cross_entropy")(LOGITS, wanted), F.cross_entropy(LOGITS, wanted))


def test_one_output_is_no_cross_entropy():
    with pytest.raises(TrainError, match=r"the model returns the shape \(2, 1\)(.|\n)*mean_squared_error"):
        as_loss("cross_entropy")(torch.zeros(2, 1), torch.tensor([0, 1]))


def test_squared_difference_fits_a_column_to_its_labels():
    assert float(as_loss("mean_squared_error")(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 1]))) == 2.0


def test_squared_difference_refuses_class_numbers():
    with pytest.raises(TrainError, match=r"labels \(2,\).\nPass loss=\"cross_entropy\" to learn class"):
        as_loss("mean_squared_error")(LOGITS, torch.tensor([0, 2]))


def test_an_unknown_loss_is_answered_with_the_known_ones():
    with pytest.raises(TrainError, match=r"no loss 'crossentropy'. Did you mean 'cross_entropy'"):
        as_loss("crossentropy")


@pytest.mark.parametrize("outputs", [LOGITS, {"logits": LOGITS}, SimpleNamespace(logits=LOGITS)])
def test_logits_are_found_by_name(outputs):
    assert logits_of(outputs) is LOGITS


def test_outputs_without_logits_are_named():
    with pytest.raises(TrainError, match="returns a tuple without a tensor named `logits`"):
        logits_of((LOGITS, LOGITS))


def test_logits_with_their_classes_last_are_turned_where_the_shapes_are_certain():
    """As token models give them: (batch, tokens, classes), whether there are more tokens than classes or fewer."""
    for tokens, classes in ((7, 3), (3, 7)):
        logits = torch.randn(2, tokens, classes, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(2 * tokens).reshape(2, tokens) % classes
        expected = F.cross_entropy(logits.movedim(-1, 1), labels)
        assert torch.equal(as_loss("cross_entropy")(logits, labels), expected)
        assert torch.equal(as_loss("cross_entropy")(logits.movedim(-1, 1), labels), expected)


def test_as_many_positions_as_classes_leave_the_class_axis_undecided():
    """Never guessed: along the wrong axis it would train all the same."""
    with pytest.raises(TrainError, match=r"classes may be on the second or on the last axis.\nPass a function as the"):
        as_loss("cross_entropy")(torch.zeros(2, 5, 5), torch.zeros(2, 5, dtype=torch.int64))


def test_torchs_plain_cross_entropy_is_recognised():
    """With weights, smoothing or another mark to ignore it is a loss of the user's own."""
    plain = as_loss("cross_entropy")
    assert as_loss(nn.CrossEntropyLoss()) is as_loss(F.cross_entropy) is plain
    for loss in (
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(ignore_index=255),
        nn.CrossEntropyLoss(reduction="sum"),
    ):
        assert as_loss(loss) is loss


def a_loss(outputs, labels):
    """Of the user's own."""
    return outputs.sum() * 0


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("cross_entropy", "cross_entropy"),
        ("mean_squared_error", "mean_squared_error"),
        (nn.CrossEntropyLoss(weight=torch.ones(2)), "cross_entropy"),
        (F.cross_entropy, "cross_entropy"),
        (nn.BCEWithLogitsLoss(), "BCEWithLogitsLoss"),
        (a_loss, "a_loss"),
    ],
)
def test_the_loss_of_a_trained_model_is_remembered(loss, name):
    """Only for the module itself, and not for longer than it lives."""
    model = nn.Linear(2, 2)
    assert losses.remembered_loss(model) is None
    losses.remember_loss(model, loss)
    assert losses.remembered_loss(model) == name
    count = len(losses._TRAINED_BY)
    del model
    gc.collect()
    assert len(losses._TRAINED_BY) < count
