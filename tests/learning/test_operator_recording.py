import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regraft.learning.operator_recording import NotFlatError, record


def test_two_runs_that_differ_are_told_apart():
    """By their numbers, by their operators, and by tensors made from Python values."""
    scales = iter([1.0, 2.0, 3.0, 3.0])

    def scaled(x):
        return [x * next(scales)]

    assert not record(scaled, torch.ones(2)).same_as(record(scaled, torch.ones(2)))
    assert record(scaled, torch.ones(2)).same_as(record(scaled, torch.ones(2)))
    values = iter([[1.0, 2.0], [1.0, 3.0]])

    def function(x):
        return [x + torch.tensor(next(values))]

    assert not record(function, torch.ones(2)).same_as(record(function, torch.ones(2)))


def test_the_work_of_a_recording_leaves_out_views():
    weight, bias = torch.randn(3, 4), torch.randn(3)
    recording = record(lambda x: [F.linear(x.flatten(1), weight, bias)], torch.randn(2, 2, 2))
    assert [str(call.operator) for call in recording.work()] == ["aten.addmm.default"]


@pytest.mark.parametrize(
    "look", [torch.Tensor.tolist, torch.Tensor.numpy, np.asarray], ids=["tolist", "numpy", "array"]
)
def test_values_handed_to_python_are_noticed_though_no_operator_runs(look):
    with pytest.raises(NotFlatError, match="it looks at values"):
        record(lambda x: [x * float(look(x)[0])], torch.ones(3))
