"""What Keras computes: here a stand-in, since Keras is no part of the tests' environment."""

import sys
from types import SimpleNamespace

import numpy as np

from golden_files import GOLDEN
from regraft.networks.network import Network, Node
from regraft.networks.reading import network_of
from regraft.reading import open_checkpoint
from regraft.runtimes.keras import last_values, record_keras


def test_a_layer_is_the_last_value_that_it_gives():
    """Not a model in the model, nor a layer with parts or several results."""
    outputs = [("conv:1",), ("conv:2",), ("lstm:1", "lstm:2"), ("attention/query:1",), ("attention:1",)]
    nodes = tuple(Node("relu", ("x",), names) for names in outputs)

    assert last_values(Network((), nodes, ())) == {"conv": "conv:2", "attention/query": "attention/query:1"}


def test_outputs_and_layers_are_recorded_under_the_names_of_the_network(monkeypatch):
    """The model of all outputs is asked once."""
    checkpoint = open_checkpoint(GOLDEN / "keras3_image.keras")
    network = network_of(checkpoint)
    hidden = SimpleNamespace(name="hidden", output="h", _inbound_nodes=[1])
    shared = SimpleNamespace(name="stem_norm", output="s", _inbound_nodes=[1, 2])
    model = SimpleNamespace(layers=[hidden, shared], inputs=["i"], outputs=["o"])
    asked = []

    def model_of(inputs, outputs):
        asked.append((inputs, outputs))
        return SimpleNamespace(predict=lambda x, verbose: [np.full(3, place) for place in range(len(outputs))])

    models = SimpleNamespace(load_model=lambda path, compile: model)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(models=models, Model=model_of, __version__="3"))

    recording = record_keras(checkpoint, network, {"x": np.zeros((1, 2))})

    assert asked == [(["i"], ["o", "h"])]
    assert recording.runtime == "Keras 3"
    assert recording.values.keys() == {*network.outputs, last_values(network)["hidden"]}
