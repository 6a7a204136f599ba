"""What a bundle becomes: real names, no copies, no texts."""

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.bundle_checkpoint import NO_GRAPH, open_bundle, path_of, unique_names, variable_names
from regraft.formats.tensor_bundle import Bundle
from tables import field, shape_message, write_bundle


def opened(folder, arrays, extra=None):
    prefix = write_bundle(folder / "m", arrays, extra=extra)
    return open_bundle(prefix, Bundle(prefix), "test", program=folder / "m.meta")


def test_texts_are_left_out_with_a_note(tmp_path):
    """A table of words, say."""
    words = {b"words": field(1, 7) + field(2, shape_message((1,)))}

    checkpoint = opened(tmp_path, {"w": np.zeros(1, np.float32)}, words)

    assert list(checkpoint) == ["w"]
    assert "1 entry holds no numbers and is left out: words." in checkpoint.notes


def test_without_a_graph_it_says_what_is_not_told(tmp_path):
    """Nothing is assumed silently."""
    assert opened(tmp_path, {"w": np.zeros(1, np.float32)}).notes == (NO_GRAPH,)


def test_a_damaged_graph_costs_its_facts_and_not_the_weights(tmp_path):
    """With a note."""
    (tmp_path / "m.meta").write_bytes(b"\x12\x7f")

    checkpoint = opened(tmp_path, {"w": np.zeros(1, np.float32)})

    assert list(checkpoint) == ["w"]
    assert any("m.meta is damaged" in note for note in checkpoint.notes)


def test_a_bundle_of_texts_alone_is_refused(tmp_path):
    """A program without variables, say."""
    words = {b"words": field(1, 7) + field(2, shape_message((1,)))}

    with pytest.raises(CheckpointError, match="holds no arrays of numbers"):
        opened(tmp_path, {}, words)


SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def graph(*variables):
    """A graph of (key, full name) pairs, one node each."""
    return b"".join(
        field(1, field(2, field(1, b"VARIABLE_VALUE") + field(2, name.encode()) + field(3, key.encode())))
        for key, name in variables
    )


def test_names_come_in_the_order_of_the_graph():
    """Keys do not sort numerically: 10 comes before 2."""
    told = graph(("v/2" + SUFFIX, "b/kernel"), ("v/10" + SUFFIX, "c/kernel"))

    assert list(variable_names(told).values()) == ["b/kernel", "c/kernel"]


def test_attributes_that_are_no_values_are_passed_over():
    """Save counters of other objects, say."""
    assert variable_names(field(1, field(2, field(1, b"OBJECT_CONFIG_JSON") + field(3, b"x")))) == {}


def test_a_name_that_comes_twice_gives_way_to_the_paths():
    """Two layers called dense."""
    keys = ["a" + SUFFIX, "b" + SUFFIX, "c" + SUFFIX]

    shown = unique_names(keys, dict(zip(keys, ("dense/kernel", "dense/kernel", "other"), strict=True)))

    assert shown == {"a": keys[0], "b": keys[1], "other": keys[2]}


def test_a_slot_keeps_its_path():
    """Its own name, `m`, would not say that it is one."""
    key = "w/.OPTIMIZER_SLOT/opt/m" + SUFFIX

    assert unique_names([key], {key: "m"}) == {path_of(key): key}


def test_keys_that_the_graph_does_not_know_come_last():
    """Under their paths."""
    assert list(unique_names(["x" + SUFFIX, "y" + SUFFIX], {"y" + SUFFIX: "named"})) == ["named", "x"]
