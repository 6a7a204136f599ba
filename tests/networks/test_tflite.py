"""Networks of TensorFlow Lite files: float, quantised, with states and with branches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.built import build_network
from tests.shared import needs_shared

from regraft.networks.tflite import network_of_tflite
from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_whole_file_is_one_network():
    """Its entries and outputs are the first subgraph's."""
    network = network_of_tflite(open_checkpoint(GOLDEN / "graph_operations.tflite"))

    assert [(entry.name, entry.shape) for entry in network.entries] == [("x", (2, 4, 6, 4))]
    assert len(network.outputs) > 80
    assert not network.untranslated


def test_a_reshape_for_a_batch_of_one_holds_for_every_batch():
    """TensorFlow Lite writes the batch into its shapes."""
    built = build_network(open_checkpoint(GOLDEN / "float32.tflite"))
    entry = network_of_tflite(open_checkpoint(GOLDEN / "float32.tflite")).entries[0]
    shape = [size or 1 for size in entry.shape[1:]]
    if any("channels last" in note for note in built.notes):
        shape = [shape[-1], *shape[:-1]]
    x = torch.randn(3, *shape)

    with torch.no_grad():
        whole, single = built.model(x), built.model(x[1:2])

    torch.testing.assert_close(whole[1:2], single, atol=1e-5, rtol=1e-5)  # other batch size, other order of sums


@pytest.mark.parametrize("name", ["int8", "dynamic", "float16"])
def test_quantised_files_are_near_the_float_file(name):
    """They hold rounded numbers of the same network; the module takes and gives real ones."""
    plain, quantised = (build_network(open_checkpoint(GOLDEN / f"{word}.tflite")) for word in ("float32", name))
    entry = network_of_tflite(open_checkpoint(GOLDEN / "float32.tflite")).entries[0]
    shape = [size or 1 for size in entry.shape[1:]]
    if any("channels last" in note for note in plain.notes):
        shape = [shape[-1], *shape[:-1]]
    x = torch.rand(2, *shape)

    with torch.no_grad():
        wanted, result = plain.model(x).numpy(), quantised.model(x).numpy()

    assert np.abs(result - wanted).max() < 0.1 * np.abs(wanted).max()
    assert any("int8" in note or "quantised" in note for note in quantised.notes) == (name != "float16")


@needs_shared
def test_mobilenet_v1_computes_what_its_golden_outputs_say():
    """A real file; the other half of the pair is a TF1 checkpoint."""
    from tests.shared import SHARED

    folder = SHARED / "checkpoints" / "mobilenet_v1_025"
    built = build_network(open_checkpoint(folder / "mobilenet_v1_0.25_224.tflite"))
    with np.load(folder / "golden.npz") as golden:
        images, logits = golden["images_uint8"], golden["logits"]
    x = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        result = built.model(x).numpy().reshape(logits.shape)
    wanted = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(result, wanted / wanted.sum(1, keepdims=True), atol=1e-5)  # another order of sums
