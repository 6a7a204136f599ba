"""What ONNX Runtime computes, inner values included."""

import numpy as np

from onnx_networks import node, write_onnx
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint
from regraft.runtimes.onnx import record_onnx


def test_inner_values_are_recorded(tmp_path):
    """They are made outputs of a copy of the graph; the file stays as it is."""
    x = np.array([[-1.0, 2.0]], np.float32)
    nodes = [node("MatMul", "x w", "inner"), node("Relu", "inner", "y")]
    path = write_onnx(tmp_path / "net.onnx", nodes, {"x": x}, {"w": np.eye(2, dtype=np.float32)})
    before = path.read_bytes()
    checkpoint = open_checkpoint(path)

    recording = record_onnx(checkpoint, network_of(checkpoint), {"x": x})

    assert recording.runtime.startswith("ONNX Runtime")
    np.testing.assert_array_equal(recording.values["inner"], x)
    np.testing.assert_array_equal(recording.values["y"], [[0, 2]])
    assert path.read_bytes() == before
