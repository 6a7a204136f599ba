"""Outputs and labels of a whole data set."""

import pytest
import torch
from torch import nn

from regraft.collecting import predictions
from regraft.errors import DataError, TrainError
from regraft.learning.solvers import Steps
from regraft.training import train
from small_models import features_of, frozen_model, head_of, three_classes


def test_outputs_are_those_of_the_model_and_the_head():
    inputs, labels = three_classes(70)
    model = frozen_model()
    head = head_of(model)
    got = predictions(head, features_of(head, inputs, labels, batch_size=64))
    assert torch.equal(got.outputs, predictions(model, (inputs, labels)).outputs)
    assert torch.equal(got.labels, labels)
    assert got.probabilities is None
    assert model.training


def test_probabilities_are_those_of_the_task():
    inputs, labels = three_classes(70)
    model = frozen_model()
    assert torch.equal(
        predictions(model, (inputs, labels), task="multilabel").probabilities,
        predictions(model, (inputs, labels)).outputs.sigmoid(),
    )
    train(model, (inputs, labels), solver=Steps(epochs=1))
    got = predictions(model, (inputs, labels))
    assert torch.equal(got.probabilities, got.outputs.softmax(1))


def test_rows_of_different_lengths_are_filled_up():
    """Tokens, their mask and their tags."""
    rows = [((torch.arange(n), torch.ones(n)), [1] * n) for n in (2, 3, 1)]

    class Marked(nn.Module):
        def forward(self, ids, mask):
            return torch.stack([ids * mask, mask], -1)

    got = predictions(Marked(), rows, batch_size=2)
    assert got.outputs.shape == (3, 3, 2)
    assert got.outputs[2, 1:].isnan().all()  # of another batch, which had one position
    assert got.labels.tolist() == [[1, 1, -100], [1, 1, 1], [1, -100, -100]]


def test_outputs_without_a_row_for_each_example_are_refused():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean()

    with pytest.raises(DataError, match="expected a row for each"):
        predictions(Mean(), three_classes(5))
    model = frozen_model()
    head = head_of(model)
    with pytest.raises(TrainError, match="A head takes cached features"):
        predictions(head, three_classes(5))
