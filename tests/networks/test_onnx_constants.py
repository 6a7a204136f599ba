"""Constants of an ONNX graph are computed as it is read."""

import numpy as np
import pytest
from tests.onnx_networks import compare, floats, node

X = floats(2, 3, 4)
NODES = {
    "Concat": [node("Concat", "a b", "s", axis=0)],
    "Gather": [node("Gather", "a i", "g"), node("Unsqueeze", "g z", "u"), node("Concat", "u b", "s", axis=0)],
    "Slice": [node("Concat", "a b", "c", axis=0), node("Slice", "c z o", "d"), node("Concat", "d b", "s", axis=0)],
    "Mul": [node("Mul", "a o", "m"), node("Concat", "m b", "s", axis=0)],
    "Div": [node("Div", "a o", "m"), node("Sub", "m z", "n"), node("Concat", "n b", "s", axis=0)],
    "Cast": [node("Cast", "a", "f", to=1), node("Floor", "f", "g"), node("Cast", "g", "h", to=7),
             node("Concat", "h b", "s", axis=0)],
    "Reduce": [node("ReduceProd", "a", "p", keepdims=1), node("Concat", "p b", "s", axis=0)],
    "Range": [node("Squeeze", "z z", "zero"), node("Range", "zero i k", "r"), node("Squeeze", "a z", "q"),
              node("Where", "yes a a", "w"), node("Concat", "w b", "s", axis=0)],
    "Shape": [node("Shape", "w0", "t"), node("Concat", "t b", "s", axis=0)],
    "Fill": [node("ConstantOfShape", "o", "e"), node("Cast", "e", "f", to=7), node("Add", "f a", "m"),
             node("Concat", "m b", "s", axis=0)],
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_a_shape_that_constants_determine_is_written_as_numbers(tmp_path, name):
    """Nothing of its computing is left in the code."""
    arrays = {"a": np.array([6]), "b": np.array([-1]), "z": np.array([0]), "o": np.array([1]), "i": np.array(0),
              "k": np.array(1), "yes": np.array(True), "w0": np.zeros(6, np.float32)}  # fmt: skip

    built = compare(tmp_path, [*NODES[name], node("Reshape", "x s", "y")], {"x": X}, arrays)

    assert ".reshape(6, -1)" in built.text
