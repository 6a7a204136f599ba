"""Built networks beside their own runtime, value by value."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from golden_files import GOLDEN
from onnx_networks import node, write_onnx
from regraft import verifying_runtime
from regraft.errors import VerifyError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from regraft.verifying import verify
from regraft.verifying_runtime import RUNTIMES, golden_by_runtime, verify_with_runtime


@pytest.fixture
def path(tmp_path):
    """A convolution, a dense layer, a softmax; the batch is free."""
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (4, 3, 3, 3), "fc.weight": (5, 4), "fc.bias": (5,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        node("Conv", "x conv.weight", "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", "conv", "relu"),
        node("GlobalAveragePool", "relu", "pool"),
        node("Flatten", "pool", "flat"),
        node("Gemm", "flat fc.weight fc.bias", "scores", transB=1),
        node("Softmax", "scores", "y", axis=1),
    ]
    return write_onnx(tmp_path / "net.onnx", nodes, {"x": np.zeros((2, 3, 8, 8), np.float32)}, arrays)


def changed(monkeypatch, name, change):
    """Let ONNX Runtime compute another number for one value."""

    def record(checkpoint, network, inputs):
        recording = RUNTIMES_BEFORE(checkpoint, network, inputs)
        return replace(recording, values={**recording.values, name: change(recording.values[name])})

    monkeypatch.setattr(verifying_runtime, "RUNTIMES", {**RUNTIMES, "onnx": record})


RUNTIMES_BEFORE = RUNTIMES["onnx"]


def test_a_network_agrees_with_onnx_runtime_in_every_value(path):
    """Six nodes: one output, five inner values."""
    result = verify_with_runtime(open_checkpoint(path))

    assert [entry.name for entry in result.outputs] == ["y"]
    assert [entry.name for entry in result.steps] == ["conv", "relu", "pool", "flat", "scores"]
    assert str(result).startswith("agrees with ONNX Runtime")
    assert "5 inner values compared" in str(result)


def test_the_first_value_that_differs_is_named(path, monkeypatch):
    """Here the runtime's own numbers are changed; the value before it agrees."""
    changed(monkeypatch, "y", lambda value: value + 0.1)
    with pytest.raises(VerifyError, match=r"more than 1e-05.*\n  y: max error 1.00e-01.*\nNone of the 5 inner values"):
        verify_with_runtime(open_checkpoint(path))

    def record(checkpoint, network, inputs):
        recording = RUNTIMES_BEFORE(checkpoint, network, inputs)
        return replace(
            recording, values={name: value + 0.1 * (name in ("pool", "y")) for name, value in recording.values.items()}
        )

    monkeypatch.setattr(verifying_runtime, "RUNTIMES", {**RUNTIMES, "onnx": record})
    with pytest.raises(VerifyError, match=r"The first of 5 inner values that differs is pool: max error 1.00e-01"):
        verify_with_runtime(open_checkpoint(path))


def test_a_difference_of_rounding_is_said_and_no_error(path, monkeypatch):
    """The scores differ by a rounding: more than the tolerance, less than float32 explains."""
    changed(monkeypatch, "y", lambda value: value * np.float32(1 + 3e-7))

    result = verify_with_runtime(open_checkpoint(path), rtol=1e-8)

    assert len(result.notes) == 1
    assert "runtimes approximate" in result.notes[0] or "float32 differs from float64" in result.notes[0]


def test_another_shape_of_an_output_is_a_difference(path, monkeypatch):
    """And a NaN on one side only."""
    changed(monkeypatch, "y", lambda value: value[:1])
    with pytest.raises(VerifyError, match=r"y: the shape is \(2, 5\) instead of \(1, 5\)"):
        verify_with_runtime(open_checkpoint(path))
    changed(monkeypatch, "y", lambda value: value * np.nan)
    with pytest.raises(VerifyError, match="y: max error inf"):
        verify_with_runtime(open_checkpoint(path))


def test_given_inputs_are_those_of_the_file(path):
    """By name, or x for a single one; others are refused with the names."""
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)

    assert verify_with_runtime(open_checkpoint(path), inputs={"x": x}).outputs[0].max_error < 1e-6
    with pytest.raises(VerifyError, match="The inputs are image; the network takes x"):
        verify_with_runtime(open_checkpoint(path), inputs={"image": x})
    with pytest.raises(VerifyError, match="No inputs that were tried can be computed"):
        verify_with_runtime(open_checkpoint(path), inputs={"x": x[:, :2]})


def test_maps_are_compared_in_the_order_of_the_file():
    """TFLite's are channels-last, the module's are not."""
    result = verify_with_runtime(open_checkpoint(GOLDEN / "float32.tflite"))

    assert len(result.steps) >= 5
    assert max(entry.max_error for entry in result.steps) < 1e-4


def test_a_quantised_file_differs_with_the_reason():
    """Its runtime rounds activations; the tolerance is the user's to choose."""
    checkpoint = open_checkpoint(GOLDEN / "dynamic.tflite")

    with pytest.raises(VerifyError, match="The file holds weights as int8, and its runtime rounds"):
        verify_with_runtime(checkpoint)
    assert verify_with_runtime(checkpoint, rtol=0.2).outputs


def test_a_format_without_runtime_is_refused():
    """Caffe has none."""
    with pytest.raises(VerifyError, match="There is no runtime for caffe files; there is one for onnx, tflite"):
        verify_with_runtime(open_checkpoint(GOLDEN / "caffe.caffemodel"))


class Twin(nn.Module):
    """The network of `path`, written by hand under other names."""

    def __init__(self, slope=0.0):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.classifier = nn.Linear(4, 5)
        self.slope = slope

    def forward(self, x):
        y = nn.functional.leaky_relu(self.features(x), self.slope).mean((2, 3))
        return self.classifier(y).softmax(1)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_model_written_by_hand_is_compared_layer_by_layer(path, slope):
    """Under its own names: what the same arrays fill. A wrong slope is found behind the convolution."""
    checkpoint, twin = open_checkpoint(path), Twin(slope)
    plan = plan_reuse(checkpoint, twin, accept=".*", rename={"conv.(.*)": r"features.\1", "fc.(.*)": r"classifier.\1"})
    apply_plan(plan, checkpoint, twin)

    golden = golden_by_runtime(checkpoint, plan)

    assert set(golden.layers) == {"features", "classifier"}
    if slope:
        with pytest.raises(VerifyError, match="The first layer that differs is classifier"):
            verify(twin, golden.inputs, golden.outputs, intermediate=golden.layers)
    else:
        assert verify(twin, golden.inputs, golden.outputs, intermediate=golden.layers).max_error < 1e-6
