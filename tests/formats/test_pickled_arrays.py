"""Pickles of arrays in containers: names, collisions, depth."""

import dataclasses
import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from unittest import mock

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.pickled_arrays import NumpyPickle, arrays_of_pickled_bytes, arrays_of_pickled_file, named_leaves
from regraft.reading import open_checkpoint

VALUES = np.array([1.5, -2, 0.25], np.float32)
ESCAPED = "".join(f"\\x{byte:02x}" for byte in VALUES.tobytes())
# What Python 2.7 with NumPy 1.16 writes for [np.array([1.5, -2, 0.25], "float32")], protocol 0.
PYTHON_2_TEXT = (
    "(lp0\ncnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n"
    "(I1\n(I3\ntp7\ncnumpy\ndtype\np8\n(S'f4'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nbI00\n"
    f"S'{ESCAPED}'\np14\ntp15\nba."
).encode()
# The same in protocol 2: short strings are U, long integers and tuples have codes of their own.
PYTHON_2_BINARY = (
    b"\x80\x02]q\x00cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    b"(K\x01K\x03\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    b"U\x0c" + VALUES.tobytes() + b"tba."
)


def test_pickles_of_python_2_are_read(tmp_path):
    """Text and binary; their strings are bytes."""
    for number, content in enumerate((PYTHON_2_TEXT, PYTHON_2_BINARY)):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(content)

        assert NumpyPickle().recognises(path, content)
        np.testing.assert_array_equal(NumpyPickle().open(path).read("0"), VALUES, strict=True)


def test_torchs_pickles_are_not_taken(tmp_path):
    """They have a reader of their own."""
    assert not NumpyPickle().recognises(tmp_path / "m.pt", bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"))


A = np.arange(3.0)


def names(value, folder, protocol=2):
    return list(arrays_of_pickled_bytes(folder / "a.pkl", pickle.dumps(value, protocol), 0).arrays)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_names_are_keys_and_positions(tmp_path, protocol):
    """Joined by dots, in the container's order."""
    value = OrderedDict(b=[A, (A, {"k": A})], a=defaultdict(list, x=A), note="text", count=3)

    assert names(value, tmp_path, protocol) == ["b.0", "b.1.0", "b.1.1.k", "a.x"]


def test_a_lone_array_is_named_by_its_file(tmp_path):
    """There is nothing else."""
    assert names(A, tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a.b": A, "a": {"b": A}}, "two arrays are named a.b"),
        ({"a": 1}, "holds no NumPy arrays"),
        ([object()], "holds no NumPy arrays"),
    ],
)
def test_what_cannot_be_named_or_found_is_said(tmp_path, value, told):
    """With the file's name."""
    with pytest.raises(CheckpointError, match=rf"a\.pkl: .*{told}"):
        names(value, tmp_path)


def test_a_list_that_holds_itself_is_refused(tmp_path):
    """Without a hang."""
    circle = [A]
    circle.append(circle)

    with pytest.raises(CheckpointError, match="nested in one another without end"):
        names(circle, tmp_path)


def test_lists_that_share_one_another_do_not_explode(tmp_path):
    """Forty levels of two would be 2⁴⁰ paths."""
    value = [A]
    for _ in range(40):
        value = [value, value]

    with pytest.raises(CheckpointError, match="nested in one another without end"):
        names(value, tmp_path)


def test_an_empty_file_is_said(tmp_path):
    """It cannot be mapped."""
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        arrays_of_pickled_file(tmp_path / "a.pkl", 0)


def test_pickles_that_follow_one_another_are_all_read(tmp_path):
    """`pickle.dump` in a loop: only the first would be a part of the network."""
    content = pickle.dumps("a header") + pickle.dumps({"w": np.ones(2)}) + pickle.dumps([np.zeros(3)])

    assert list(arrays_of_pickled_bytes(tmp_path / "a.pkl", content, 0).arrays) == ["1.w", "2.0"]


def test_what_follows_and_is_no_pickle_is_refused(tmp_path):
    """Arrays may lie there, as joblib writes them."""
    with pytest.raises(CheckpointError, match="the pickle is damaged"):
        arrays_of_pickled_bytes(tmp_path / "a.pkl", pickle.dumps({"w": np.ones(2)}) + b"\x93raw bytes", 0)


def test_texts_beside_the_arrays_are_left_out_by_name_and_arrays_of_arrays_are_opened(tmp_path):
    """The names of the classes lie beside many networks."""
    ragged = np.array([np.ones(2), np.ones(3)], dtype=object)
    content = pickle.dumps({"w": np.ones(2), "classes": np.array(["a", "b"]), "layers": ragged})

    found = arrays_of_pickled_bytes(tmp_path / "a.pkl", content, 0)

    assert (list(found.arrays), found.left_out) == (["w", "layers.0", "layers.1"], ["classes"])


def leaves(value, limit=100):
    return dict(named_leaves(value, lambda one: isinstance(one, float), limit=limit))


def test_leaves_come_in_order_with_their_paths():
    """Keys as text, positions as numbers; what is no leaf is passed over."""
    assert list(leaves({"b": [1.0, "no", (2.0,)], 7: {"x": 3.0}})) == [("b", "0"), ("b", "2", "0"), ("7", "x")]


def test_a_lone_leaf_has_no_path():
    """Its reader names it."""
    assert leaves(1.0) == {(): 1.0}


def test_depth_and_visits_are_limited():
    """64 levels; as many visits as the caller allows."""
    deep = 1.0
    for _ in range(70):
        deep = [deep]
    with pytest.raises(CheckpointError, match="without end"):
        leaves(deep)
    with pytest.raises(CheckpointError, match="without end"):
        leaves([1.0] * 101)


@dataclasses.dataclass
class Statistics:
    """As brax' RunningStatisticsState, around the arrays of a policy."""

    mean: np.ndarray
    count: int = 3


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_in_a_dataclass_are_read_without_making_it(tmp_path, protocol):
    """Its module need not be there, and nothing of it is run."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Statistics(A), {"w": np.ones(2)}], protocol))

    checkpoint = open_checkpoint(tmp_path / "a.pkl")

    assert list(checkpoint) == ["0.mean", "1.w"]
    np.testing.assert_array_equal(checkpoint.read("0.mean"), A, strict=True)
    assert "Objects of 1 classes were not made" in checkpoint.notes[0]


def test_arrays_of_jax_are_read_as_numpy_s(tmp_path):
    """JAX pickles an array as NumPy's with its own state beside it."""

    class Array:
        def __reduce__(self):
            function, arguments, state = A.__reduce__()
            return reconstruct, (function, arguments, state, {"weak_type": False})

    def reconstruct(*arguments):
        raise AssertionError("not called")

    reconstruct.__module__, reconstruct.__qualname__ = "jax._src.array", "_reconstruct_array"
    module = types.ModuleType("jax._src.array")
    module._reconstruct_array = reconstruct
    with mock.patch.dict(sys.modules, {"jax": module, "jax._src": module, "jax._src.array": module}):
        content = pickle.dumps({"w": Array()}, 2)
    (tmp_path / "a.pkl").write_bytes(content)

    np.testing.assert_array_equal(open_checkpoint(tmp_path / "a.pkl").read("w"), A, strict=True)
