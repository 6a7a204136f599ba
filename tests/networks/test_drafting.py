"""A network that is being written."""

import numpy as np

from regraft.networks.drafting import Draft, decimal, literal
from regraft.networks.network import Array, Literal


def test_the_same_arrays_and_settings_are_one_layer():
    """Other settings are another layer, with the next name."""
    draft, arrays = Draft(), {"weight": Array(("w",))}

    names = [draft.layer_name("conv", arrays, {"stride": step}, ["a", "b"]) for step in (1, 1, 2, 3)]

    assert names == ["a", "a", "b", "b#2"]


def test_layers_without_arrays_are_never_one():
    """Two dropouts have names of their own."""
    draft = Draft()

    assert [draft.layer_name("dropout", {}, {"p": 0.5}, [name]) for name in ("a", "a")] == ["a", "a#1"]


def test_constants_are_written_as_short_as_they_can_be():
    """The largest float32 is no shorter decimal: that would be infinite."""
    assert literal(np.array([[0.001, 2]], np.float32)) == Literal(((0.001, 2.0),), "float32")
    assert literal(np.array(3)) == Literal(3, "int64")
    assert np.float32(decimal(np.finfo(np.float32).min)) == np.finfo(np.float32).min
