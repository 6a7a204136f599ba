"""What a value of an ONNX graph is: a value, an array of the checkpoint, or a constant in the code."""

import numpy as np
import pytest
from tests.onnx_networks import build_onnx, compare, floats, node, write_onnx
from torch import nn

from regraft.errors import BuildError

X = floats(2, 3)


def test_an_array_that_belongs_to_no_layer_is_a_parameter(tmp_path):
    """Under its own name."""
    built = compare(tmp_path, [node("Mul", "x block.scale", "y")], {"x": X}, {"block.scale": floats(3)})

    assert isinstance(built.model.get_parameter("block.scale"), nn.Parameter)


def test_an_array_that_is_also_a_name_of_a_layer_has_another_name(tmp_path):
    """A bias that is used twice is no bias of the layer."""
    nodes = [node("MatMul", "x fc.weight", "z"), node("Add", "z fc.bias", "w"), node("Mul", "z w", "y")]

    built = compare(tmp_path, nodes, {"x": X}, {"fc.weight": floats(3, 3), "fc.bias": floats(3)}, tolerance=1e-5)

    assert {"fc.weight", "fc_bias"} <= {name for name, _ in built.model.named_parameters()}


def test_whole_numbers_are_buffers(tmp_path):
    """They do not train."""
    table = np.arange(200).reshape(2, 100)

    built = compare(tmp_path, [node("Gather", "table i", "y", axis=1)], {"i": np.array([3, 5])}, {"table": table})

    assert any(name.startswith("table") for name, _ in built.model.named_buffers())


def test_an_output_that_is_an_input_or_an_array(tmp_path):
    """The network gives it all the same."""
    compare(
        tmp_path,
        [node("Identity", "x", "y"), node("Identity", "w", "z")],
        {"x": X},
        {"w": floats(4)},
        outputs=("y", "z"),
    )


def test_a_masks_infinity_is_kept(tmp_path):
    """Only the weights of layers may not be infinite."""
    mask = np.where(np.eye(3, dtype=bool), -np.inf, 0).astype(np.float32)

    compare(tmp_path, [node("Add", "x mask", "s"), node("Softmax", "s", "y")], {"x": floats(3, 3)}, {"mask": mask})


def test_texts_are_refused(tmp_path):
    """With their name."""
    path = write_onnx(tmp_path / "net.onnx", [node("StringNormalizer", "x", "y")], {"x": X}, {"w": floats(3)})

    with pytest.raises(BuildError, match="StringNormalizer y"):
        build_onnx(path)
