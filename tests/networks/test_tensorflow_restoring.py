"""Variables of a SavedModel are the arrays from which the graph restores them."""

from pathlib import Path

import pytest

from regraft.networks.tensorflow import network_of_tensorflow
from regraft.networks.tensorflow_restoring import restored_names
from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", ["graph_savedmodel", "keras3_savedmodel"])
def test_every_weight_of_the_network_is_an_array_of_the_checkpoint(name):
    """Keras 3 has each variable twice, under two names."""
    checkpoint = open_checkpoint(GOLDEN / name)
    network = network_of_tensorflow(checkpoint)

    sources = {source for node in network.nodes for array in node.all_arrays() for source in array.sources}

    assert sources
    assert sources <= set(checkpoint)


def test_a_graph_that_restores_nothing_names_nothing():
    """Then the variables' own names count."""
    assert restored_names(open_checkpoint(GOLDEN / "graph_savedmodel"), {}) == {}
