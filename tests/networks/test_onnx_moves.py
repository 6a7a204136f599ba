"""Moves of an array become operations of its plan."""

import numpy as np
import pytest
import torch
from tests.onnx_networks import compare, floats, node

from regraft.networks.onnx_moves import whole_shape

W = floats(3, 5)
MOVES = {
    "transpose": ([node("Transpose", "w", "m")], W.T),
    "reshape": ([node("Reshape", "w s", "m")], W.reshape(5, 3)),
    "squeeze": ([node("Unsqueeze", "w z", "u"), node("Squeeze", "u z", "t"), node("Transpose", "t", "m")], W.T),
    "slice": ([node("Transpose", "w", "t"), node("Slice", "t z c z", "v"), node("Concat", "v v", "v2", axis=0),
               node("Identity", "t", "m")], W.T),
    "cast": ([node("Cast", "w", "h", to=1), node("Transpose", "h", "m")], W.T),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_a_moved_array_is_the_weight_of_its_layer(tmp_path, name):
    """The moves are in the plan, not in the code."""
    nodes, wanted = MOVES[name]
    arrays = {"w": W, "s": np.array([5, 3]), "z": np.array([0]), "c": np.array([2])}

    built = compare(tmp_path, [*nodes, node("MatMul", "x m", "y")], {"x": floats(2, 5)}, arrays, tolerance=1e-5)

    layer = next(layer for layer in built.model.modules() if isinstance(layer, torch.nn.Linear))
    assert torch.equal(layer.weight.detach(), torch.from_numpy(np.ascontiguousarray(wanted.T)))


def test_the_sizes_of_a_reshape():
    """0 keeps an axis, -1 takes the rest."""
    assert whole_shape([0, -1], (2, 3, 4)) == (2, 12)
    assert whole_shape([-1], (2, 3)) == (6,)
