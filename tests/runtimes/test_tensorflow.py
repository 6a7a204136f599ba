"""What TensorFlow computes: here a stand-in, since TensorFlow is no part of the tests' environment."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint
from regraft.runtimes.tensorflow import record_tensorflow, switches


def placeholder(name, dtype, rank=0):
    shape = SimpleNamespace(rank=rank)
    return SimpleNamespace(
        name=name, type="Placeholder", outputs=[SimpleNamespace(dtype=SimpleNamespace(name=dtype), shape=shape)]
    )


def test_placeholders_that_say_whether_the_network_trains_say_no():
    """Dropout keeps everything, whether the placeholder holds the share that is kept or dropped; others stay open."""
    operations = [
        placeholder("is_training", "bool"),
        placeholder("keep_prob", "float32"),
        placeholder("rate", "float32"),
        placeholder("x", "float32", rank=2),
        placeholder("file", "string"),
        SimpleNamespace(name="y", type="Relu", outputs=[]),
    ]

    taken = switches(SimpleNamespace(get_operations=lambda: operations))

    assert taken == {"is_training": False, "keep_prob": 1.0, "rate": 0.0}


class Session:
    """Records what it is asked for."""

    asked = []  # noqa: RUF012

    def __init__(self, graph, config):
        self.graph = graph

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def run(self, fetched, feed):
        self.asked.append((fetched, feed))
        return {name: np.zeros(1) for name in fetched}


@pytest.mark.parametrize(
    ("file", "loaded"),
    [("graph_operations.pb", "GraphDef"), ("graph_savedmodel", "serve"), ("graph_training.ckpt", "restored")],
)
def test_a_graph_of_each_kind_is_loaded_and_asked_for_what_it_has(file, loaded, monkeypatch):
    """Values inside functions, which the graph does not have, are left out."""
    checkpoint = open_checkpoint(GOLDEN / file)
    network = network_of(checkpoint)
    shown = f"{network.outputs[0]}:0" if ":" not in network.outputs[0] else network.outputs[0]
    loads = []

    class Graph:
        def as_default(self):
            return nullcontext()

        def get_operations(self):
            return [placeholder("is_training", "bool")]

        def get_tensor_by_name(self, name):
            if name != shown:
                raise KeyError(name)

    saver = SimpleNamespace(restore=lambda session, prefix: loads.append("restored"))
    config = SimpleNamespace(graph_options=SimpleNamespace(rewrite_options=SimpleNamespace()))
    v1 = SimpleNamespace(
        Graph=Graph,
        Session=Session,
        ConfigProto=lambda: config,
        GraphDef=SimpleNamespace(FromString=lambda content: "GraphDef"),
        import_graph_def=lambda definition, name: loads.append(definition),
        train=SimpleNamespace(import_meta_graph=lambda path, clear_devices: saver),
        saved_model=SimpleNamespace(
            tag_constants=SimpleNamespace(SERVING="serve"), load=lambda session, tags, folder: loads.extend(tags)
        ),
    )
    v1_module = SimpleNamespace(compat=SimpleNamespace(v1=v1), __version__="2")
    monkeypatch.setitem(sys.modules, "tensorflow", v1_module)
    x = np.zeros((1, 2), np.float32)

    recording = record_tensorflow(checkpoint, network, {network.entries[0].name: x})

    assert loads == [loaded]
    assert set(recording.values) == {network.outputs[0]}
    fetched, feed = Session.asked.pop()
    assert fetched == {network.outputs[0]: shown}
    assert feed == {f"{network.entries[0].name}:0": x, "is_training:0": False}
