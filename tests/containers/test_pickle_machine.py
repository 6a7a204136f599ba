"""The pickle machine: the same objects as Python's own, and nothing is ever called."""

import os
import pickle
import pickletools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.containers.pickle_machine import Machine
from regraft.containers.pickle_objects import LongString, Name
from regraft.errors import CheckpointError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
KEYS = st.text(max_size=5) | st.integers()
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=12,
)
KNOWN = {"_codecs.encode": lambda text, coding: text.encode(coding), "builtins.bytes": lambda *_: b""}
KNOWN |= {"__builtin__.bytes": KNOWN["builtins.bytes"]}


@settings(max_examples=200)
@given(OBJECTS, st.integers(0, 5))
def test_plain_objects_come_back_from_every_protocol(value, protocol):
    """Numbers, texts, bytes, lists, tuples and dictionaries in one another."""
    assert Machine(pickle.dumps(value, protocol), KNOWN).load() == value


def test_shared_and_long_lists_come_back():
    """Memo entries beyond one byte."""
    shared = ["x"]
    value = [[str(i)] for i in range(400)] + [shared, shared]

    got = Machine(pickle.dumps(value, 2), KNOWN).load()

    assert got == value
    assert got[-1] is got[-2]


def test_a_long_string_stays_where_it_is():
    """Its place is told."""
    content = os.urandom(5000)
    data = pickle.dumps(content, 4)

    chunk = Machine(data, KNOWN).load()

    assert isinstance(chunk, LongString)
    assert data[chunk.start : chunk.start + chunk.size] == content


def test_all_refused_names_are_told_at_once(tmp_path):
    """And none of them is imported or called."""

    class Evil:
        def __init__(self, call):
            self.call = call

        def __reduce__(self):
            return self.call

    marker = tmp_path / "ran"
    data = pickle.dumps([Evil((os.system, (f"touch {marker}",))), Evil((eval, ("1",)))], 2)

    with pytest.raises(CheckpointError, match=r"run code of its own: (posix|nt)\.system, (builtins|__builtin__)\.eval"):
        Machine(data, {}).load()
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"(",
        b"\x80\x02",
        b"}h\x05.",  # memo index that was never put
        b"B\xff\xff\xff\x7fab.",  # 2 GiB of bytes are claimed
        b"\x8e" + b"\xff" * 8 + b".",  # 2⁶⁴ of them
        b"\x8b\xff\xff\xff\x7f1.",  # a number of 2 GiB
        b"I" + b"9" * 5000 + b"\n.",  # Python's own limit of digits
        b"Sno quotes\n.",
        b"K\x01K\x02R.",  # a number is called
        b"(K\x01u.",  # pairs without a dictionary
        b"Pabc\n.",  # a persistent id, and nobody who knows it
        b"\xff.",
        b"((((((0000000.",
    ],
)
def test_damaged_pickles_are_refused(data):
    """Nothing is allocated for lengths that cannot be."""
    with pytest.raises(CheckpointError, match="the pickle is damaged near byte"):
        Machine(data, KNOWN).load()


def test_a_key_made_of_nested_tuples_is_refused():
    """Hashing a million nested tuples would overflow Python's stack."""
    data = b"}" + b")" + b"\x85" * 100_000 + b"K\x01s."

    with pytest.raises(CheckpointError, match="tuple of tuples"):
        Machine(data, {}).load()


def test_several_pickles_follow_one_another():
    """Torch writes four before its storages."""
    machine = Machine(pickle.dumps(1) + pickle.dumps("two"), {})

    assert [machine.load(), machine.load()] == [1, "two"]


def test_a_known_global_is_a_name_until_it_is_called():
    """It is not imported."""
    assert Machine(b"cos\nsystem\n.", {"os.system": print}).load() == Name("os.system")


def test_every_operation_of_python_is_known_but_those_of_other_processes():
    """Extension registry and out-of-band buffers need what a file cannot hold."""
    from regraft.containers.pickle_machine import _OPERATIONS

    inline = set(b".rhK(t")
    unknown = {o.name for o in pickletools.opcodes if ord(o.code) not in _OPERATIONS and ord(o.code) not in inline}
    assert unknown == {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
