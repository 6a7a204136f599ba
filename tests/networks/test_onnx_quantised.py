"""Quantised ONNX files: the weights' numbers, and activations near those of the integers."""

import numpy as np
import pytest
import torch
from tests.onnx_networks import build_onnx, floats, node, run_onnx, write_onnx
from torch import nn

from regraft.errors import BuildError

X = floats(4, 6)
STEP = np.array(0.05, np.float32)


def close_to_runtime(path, x, steps):
    """The model, after its output has been compared with ONNX Runtime's to so many steps of the quantised values."""
    expected = run_onnx(path, {"x": x})[0]
    built = build_onnx(path)
    with torch.no_grad():
        result = built.model(torch.from_numpy(x)).numpy()
    assert np.abs(result - expected).max() <= steps
    assert any("quantised" in note for note in built.notes)
    return built


def test_values_that_are_rounded_in_the_file_are_only_cut_off(tmp_path):
    """QuantizeLinear and DequantizeLinear: an activation may be no more than where the integers end."""
    arrays = {"s": STEP, "z": np.array(0, np.uint8), "w": floats(2)}
    path = write_onnx(tmp_path / "q.onnx", [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z",
        "y")],
                      {"x": X}, arrays)  # fmt: skip

    built = close_to_runtime(path, X, 0.026)  # half a step

    assert built.model(torch.tensor([[-1.0, 100.0]])).tolist() == [[0.0, 12.75]]


def test_a_dense_layer_of_integers_has_the_numbers_of_its_weights(tmp_path):
    """Weights through DequantizeLinear, one scale for each output."""
    integers = np.random.default_rng(0).integers(-127, 128, (6, 3)).astype(np.int8)
    arrays = {"fc.weight": integers, "s": np.array([0.1, 0.2, 0.3], np.float32), "z": np.zeros(3, np.int8)}
    nodes = [node("DequantizeLinear", "fc.weight s z", "w", axis=1), node("MatMul", "x w", "y")]
    path = write_onnx(tmp_path / "q.onnx", nodes, {"x": X}, arrays)
    expected = run_onnx(path, {"x": X})[0]

    built = build_onnx(path)

    layer = next(layer for layer in built.model.modules() if isinstance(layer, nn.Linear))
    assert torch.equal(layer.weight.detach(), torch.from_numpy((integers * arrays["s"]).T))
    np.testing.assert_allclose(built.model(torch.from_numpy(X)).detach().numpy(), expected, rtol=1e-5, atol=1e-4)


def test_dynamic_quantisation_becomes_a_dense_layer_of_real_numbers(tmp_path):
    """As ONNX Runtime's quantiser writes it: the scales are multiplied by as the graph runs."""
    integers = np.random.default_rng(0).integers(-127, 128, (6, 3)).astype(np.int8)
    arrays = {"fc.weight_quantized": integers, "fc.weight_scale": np.array(0.02, np.float32),
              "fc.weight_zero_point": np.array(0, np.int8), "fc.bias": floats(3)}  # fmt: skip
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"), node("MatMulInteger",
            "q fc.weight_quantized z fc.weight_zero_point", "i"),
        node("Cast", "i", "f", to=1), node("Mul", "s fc.weight_scale", "scale"), node("Mul", "f scale", "p"),
        node("Add", "p fc.bias", "y"),
    ]  # fmt: skip
    path = write_onnx(tmp_path / "q.onnx", nodes, {"x": X}, arrays)

    built = close_to_runtime(path, X, 0.1)

    assert any(isinstance(layer, nn.Linear) for layer in built.model.modules())


def test_a_bias_that_the_file_rounds_is_kept_whole(tmp_path):
    """bias / scale, floored and cast to integers, then added to the product: nothing of it is rounded."""
    integers = np.random.default_rng(0).integers(-127, 128, (3, 4, 1, 1)).astype(np.int8)
    arrays = {"c.weight_quantized": integers, "c.weight_scale": np.array(0.02, np.float32),
              "c.weight_zero_point": np.array(0, np.int8), "c.bias": floats(3), "shape": np.array([1, 3, 1,
                  1])}  # fmt: skip
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"), node("Mul", "s c.weight_scale", "scale"),
        node("Div", "c.bias scale", "b"), node("Floor", "b", "bf"), node("Cast", "bf", "bi", to=6),
        node("Reshape", "bi shape", "br"),
        node("ConvInteger", "q c.weight_quantized z c.weight_zero_point", "i"), node("Add", "i br", "t"),
        node("Cast", "t", "f", to=1), node("Mul", "f scale", "y"),
    ]  # fmt: skip
    x = floats(2, 4, 3, 3)
    path = write_onnx(tmp_path / "q.onnx", nodes, {"x": x}, arrays)

    close_to_runtime(path, x, 0.1)


def test_a_convolution_of_integers_is_one_of_real_numbers(tmp_path):
    """QLinearConv, with a bias in the scale of input times kernel, cut off where the integers end."""
    rng = np.random.default_rng(0)
    arrays = {
        "xs": STEP, "xz": np.array(128, np.uint8), "w": rng.integers(-127, 128, (3, 4, 1, 1)).astype(np.int8),
        "ws": np.array(0.01, np.float32), "wz": np.array(0, np.int8), "ys": np.array(0.1, np.float32),
        "yz": np.array(0, np.uint8), "b": rng.integers(-900, 900, 3).astype(np.int32),
    }  # fmt: skip
    nodes = [node("QuantizeLinear", "x xs xz", "q"), node("QLinearConv", "q xs xz w ws wz ys yz b", "c"),
             node("DequantizeLinear", "c ys yz", "y")]  # fmt: skip
    x = floats(2, 4, 3, 3)
    path = write_onnx(tmp_path / "q.onnx", nodes, {"x": x}, arrays)

    built = close_to_runtime(path, x, 0.2)

    assert any(isinstance(layer, nn.Conv2d) for layer in built.model.modules())


def test_a_product_whose_scale_is_not_recorded_is_refused(tmp_path):
    """The numbers of the weights are then not known."""
    arrays = {"w": np.ones((6, 3), np.int8), "f": floats(2)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", "q w z", "i"),
        node("Cast", "i", "y", to=1),
    ]
    path = write_onnx(tmp_path / "q.onnx", nodes, {"x": X}, arrays)

    with pytest.raises(BuildError, match="does not record the scale of its weights"):
        build_onnx(path)


def test_a_scale_that_is_more_than_a_factor_is_refused(tmp_path):
    """It counts as 1 in the network, so that nothing else may be computed from it."""
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("Exp", "s", "y")]
    path = write_onnx(tmp_path / "q.onnx", nodes, {"x": X}, {"w": floats(2)})

    with pytest.raises(BuildError, match="its scale is an input of Exp"):
        build_onnx(path)
