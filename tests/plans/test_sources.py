"""What is known of a checkpoint is gathered once: usable arrays, layers, axis orders, connections."""

import numpy as np

from in_memory import checkpoint_of
from regraft.arrays import Requirement
from regraft.plans.sources import Wiring, gather_sources


def test_what_a_recurrent_layer_calls_its_activation_lies_inside_of_it():
    """A dense layer behind an LSTM gets the LSTM's output as it is."""
    gated = {"recurrent_activation": "sigmoid", "activation": "tanh"}
    facts = {"lstm": gated, "rnn": {"activation": "tanh"}, "dense": {"activation": "tanh"}}
    wiring = Wiring(dict.fromkeys(facts, ()), {"lstm": "LSTM", "rnn": "RNN", "dense": "Dense"}, facts=facts)
    assert [wiring.steps(layer, has_arrays=True) for layer in ("lstm", "rnn")] == [(), ()]
    assert [str(step.function) for step in wiring.steps("dense", has_arrays=True)] == ["tanh"]


def test_facts_of_the_layers_around_an_array_count_and_the_inner_one_wins():
    """lstm/lstm_cell/kernel knows what the file records of lstm."""
    facts = (
        Requirement("lstm", "go_backwards", True),
        Requirement("lstm", "units", 4),
        Requirement("lstm/lstm_cell", "units", 5),
    )
    sources = gather_sources(checkpoint_of({"lstm/lstm_cell/kernel": np.ones((2, 2))}, requirements=facts))

    assert sources.facts["lstm/lstm_cell/kernel"] == {"go_backwards": True, "units": 5}
    assert sources.layers_around("lstm/lstm_cell/kernel") == ["lstm/lstm_cell", "lstm"]


def test_a_file_of_torch_with_names_of_another_framework_has_no_layout():
    arrays = {"a/kernel": np.ones((2, 2)), "a/gamma": np.ones(2)}

    sources = gather_sources(checkpoint_of(arrays, layout="torch"))

    assert sources.layout is None
    assert "arrays are called kernel, gamma, as in tensorflow" in sources.notes[0]
