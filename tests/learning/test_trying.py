import pytest
import torch
from torch import nn

from regraft.errors import DataError, TrainError
from regraft.examples import DatasetExamples, TensorExamples
from regraft.learning.learner import Learner
from regraft.learning.request import Request
from regraft.learning.trying import try_out
from small_models import TwoParts, same_weights, three_classes, weights_of


def test_a_try_changes_nothing():
    model = TwoParts()
    before = weights_of(model)
    assert try_out(Learner(model), TensorExamples(*three_classes()), Request())[1] is None
    assert same_weights(before, weights_of(model))


def test_a_loss_that_counts_has_not_been_called():
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    loss.calls = 0
    loss.register_forward_hook(lambda module, *_: setattr(module, "calls", module.calls + 1))
    try_out(Learner(TwoParts()), TensorExamples(*three_classes()), Request(loss=loss), "float32")
    assert loss.calls == 0


def test_labels_that_are_not_at_hand_are_left_to_the_first_epoch():
    rows = list(zip(*three_classes(), strict=True))
    check = try_out(Learner(TwoParts()), DatasetExamples(rows), Request())[1]
    with pytest.raises(DataError, match="Example 7 has the label 3"):
        check.look(torch.tensor([3]), torch.tensor([7]))


def test_a_loss_of_each_example_is_refused():
    with pytest.raises(TrainError, match=r"The loss has the shape \(2,\), expected one number for the batch"):
        try_out(
            Learner(nn.Linear(4, 3)),
            TensorExamples(*three_classes()),
            Request(loss=nn.CrossEntropyLoss(reduction="none")),
        )


def test_numbers_of_numpy_are_told_how_to_fit():
    """NumPy's own type is float64, torch's is float32."""
    inputs, labels = three_classes()
    with pytest.raises(DataError, match=r"inputs are float64[\s\S]*astype"):
        try_out(Learner(nn.Linear(4, 3)), TensorExamples(inputs.double(), labels), Request())
