"""What LiteRT computes, inner values included."""

import numpy as np

from golden_files import GOLDEN, golden_arrays
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint
from regraft.runtimes.tflite import real, record_tflite, stored


def test_every_inner_value_is_recorded():
    """The outputs are those of TensorFlow's own interpreter, which the golden file holds."""
    checkpoint = open_checkpoint(GOLDEN / "graph_operations.tflite")
    network = network_of(checkpoint)
    golden = golden_arrays("graph_operations.npz")

    recording = record_tflite(checkpoint, network, {"x": golden["x"]})

    for name, output in zip(golden["lite_names"], network.outputs, strict=True):
        np.testing.assert_allclose(recording.values[output], golden[str(name)], atol=1e-5, rtol=1e-5)
    assert len(recording.values) > len(network.outputs)


def test_a_quantised_input_is_rounded_to_the_steps_of_the_file_and_limited_to_its_range():
    """Steps of 0.5 from -64.5 to 63; other dtypes are taken as they are."""
    detail = {"quantization": (0.5, 1), "dtype": np.int8}
    x = np.array([0.3, -2, 900], np.float32)

    np.testing.assert_array_equal(stored(x, detail), np.array([2, -3, 127], np.int8))
    np.testing.assert_array_equal(real(stored(x, detail), detail), [0.5, -2, 63])
    np.testing.assert_array_equal(stored(x, {"quantization": (0.0, 0), "dtype": np.float32}), x)
