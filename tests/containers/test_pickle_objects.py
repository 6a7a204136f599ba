"""Objects of a pickle that were not made."""

import os
import pickle

import pytest

from regraft.containers.pickle_machine import Machine
from regraft.containers.pickle_objects import PickledRecord, contents_of
from regraft.errors import CheckpointError


def test_a_module_holds_what_its_state_dict_would():
    """Parameters, buffers that persist, then modules; not what else hangs on it."""
    inner = PickledRecord("Linear")
    state = {
        "_parameters": {"w": 1}, "_buffers": {"mean": 2, "grid": 3}, "_modules": {"fc": inner},
        "_non_persistent_buffers_set": ["grid"], "other": 4,
    }  # fmt: skip

    assert contents_of(PickledRecord("Net", (), state)) == {"w": 1, "mean": 2, "fc": inner}


@pytest.mark.parametrize(("state", "expected"), [
    (None, {}), ({"a": 1}, {"a": 1}),
    ((None, {"slot": 2}), {"slot": 2}), (({"a": 1}, {"slot": 2}), {"a": 1, "slot": 2}),
    ((7, [8]), {"state": (7, [8])}),
])  # fmt: skip
def test_other_objects_hold_their_attributes_and_slots(state, expected):
    """As Python itself restores them."""
    assert contents_of(PickledRecord("Thing", (), state)) == expected


def test_a_named_tuple_holds_its_values_and_a_dictionary_s_own_kind_its_items():
    """By their places and keys."""
    assert contents_of(PickledRecord("Pair", (1, 2))) == {0: 1, 1: 2}
    assert contents_of(PickledRecord("Config", (), {"b": 2}, {"a": 1})) == {"a": 1, "b": 2}


class Thing:
    """Of a module that no reader knows."""


def test_objects_are_kept_only_where_the_reader_asks():
    """The keeping machine names their classes; the other refuses."""
    data = pickle.dumps({"thing": Thing()}, 2)
    machine = Machine(data, {}, keeps=True)

    assert isinstance(machine.load()["thing"], PickledRecord)
    assert list(machine.kept) == [f"{__name__}.Thing"]
    with pytest.raises(CheckpointError, match=r"run code of its own: .*\.Thing"):
        Machine(data, {}).load()


@pytest.mark.parametrize("data", [
    b"cos\nsystem\n)\x81.",  # as an object that would be made
    b"cos\nsystem\n.",  # only named
    b"cown.module\nrun\n(S'rm'\ntR.",  # a function that no reader knows is called
    b"(iown.module\nrun\n.",
    b"(cown.module\nrun\no.",
])  # fmt: skip
def test_calls_and_python_s_own_modules_are_refused_even_where_objects_are_kept(data):
    """Nothing is imported, and a file that asks for it is told by name."""
    with pytest.raises(CheckpointError, match=r"refused, because .* (os\.system|own\.module\.run)"):
        Machine(data, {}, keeps=True).load()
    assert callable(os.system)
