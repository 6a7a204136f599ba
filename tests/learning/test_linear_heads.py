import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from regraft.errors import TrainError
from regraft.examples import DatasetExamples, TensorExamples
from regraft.learning.learner import Learner
from regraft.learning.linear_heads import linear_layer
from small_models import frozen_model, head_of, objective_of, three_classes, weights_of


def found(model, examples=None, loss="cross_entropy"):
    return linear_layer(Learner(model), examples or TensorExamples(*three_classes()), objective_of(loss))


def test_a_flatten_before_the_layer_is_no_work():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    inputs, labels = three_classes()
    assert found(model, TensorExamples(inputs.reshape(-1, 2, 2), labels)) is model[1]


def test_the_layer_of_a_split_model_is_found():
    model = frozen_model()
    model.head = nn.Linear(8, 3, bias=False)
    head = head_of(model)
    examples = TensorExamples(head.trunk(three_classes(6)[0]), torch.arange(6) % 3)
    assert found(head, examples) is model.head


def test_looking_changes_nothing():
    model = nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.Linear(4, 3)).eval()
    before = weights_of(model)
    with pytest.raises(TrainError, match="does more than its linear layer"):
        found(model)
    assert not model.training
    assert torch.equal(before["1.weight"], model[1].weight)
    assert torch.equal(before["0.running_mean"], model[0].running_mean)


class Twice(nn.Linear):
    """A layer of another class: what it computes is not known."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("model", "examples", "told"),
    [
        (Twice(4, 3), None, "more than one linear layer"),
        (
            nn.Linear(4, 3),
            DatasetExamples(torch.utils.data.TensorDataset(*three_classes())),
            "not one tensor in memory",
        ),
        (nn.Linear(4, 3).double(), TensorExamples(three_classes()[0].double(), three_classes()[1]), "not float32"),
        (nn.Linear(4, 3), TensorExamples(torch.randn(6, 5, 4), torch.zeros(6, 5).long()), "not class numbers"),
        (nn.Linear(4, 3), TensorExamples(torch.randn(6, 5, 4), torch.zeros(6).long()), "more than its linear layer"),
    ],
)
def test_what_is_in_the_way_is_told(model, examples, told):
    with pytest.raises(TrainError, match=told):
        found(model, examples)


def test_an_exact_solution_does_not_wait_for_torchs_compiler():
    """torch's first optimizer of a process imports it, two seconds; the solver needs none."""
    code = (
        "import sys, torch, regraft\n"
        "data = (torch.randn(60, 4), torch.arange(60) % 3)\n"
        "history = regraft.train(torch.nn.Linear(4, 3), data, solver=regraft.Exact(weight_decay=1e-3))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "print(history.notes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert "solver: Exact(" in done.stdout
