"""The steps of a built network, one by one."""

import numpy as np
import torch

from onnx_networks import build_onnx, node, write_onnx
from regraft.networks.source import StepValue
from regraft.networks.stepping import in_code_order, in_file_order, run_steps


def test_each_step_gives_the_values_of_the_file(tmp_path):
    """Two values, in order; the last one is what the module gives."""
    x = np.ones((2, 3), np.float32)
    nodes = [node("MatMul", "x w", "inner"), node("Relu", "inner", "y")]
    built = build_onnx(write_onnx(tmp_path / "n.onnx", nodes, {"x": x}, {"w": -np.ones((3, 2), np.float32)}))

    steps = list(run_steps(built.model, built.source, {"x": torch.from_numpy(x)}))

    values = {name: value for step in steps for name, value in step.items()}
    torch.testing.assert_close(values["inner"], torch.full((2, 2), -3.0))
    assert torch.equal(values["y"], built.model(torch.from_numpy(x)))


def test_orders_are_turned_both_ways():
    """A map that the code keeps with its channels second."""
    value = StepValue("x", "x", (0, 3, 1, 2))
    file = torch.rand(2, 5, 6, 3)

    assert in_code_order(file, value).shape == (2, 3, 5, 6)
    assert torch.equal(in_file_order(in_code_order(file, value), value), file)
