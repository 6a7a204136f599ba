"""Variables' own names out of TF2's object graph."""

from regraft.formats.object_graph import path_of, unique_names, variable_names
from tables import field

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
