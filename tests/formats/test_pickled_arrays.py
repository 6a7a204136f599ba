"""Pickles of arrays in containers: names, collisions, depth."""

import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.pickled_arrays import arrays_of_pickled_bytes, arrays_of_pickled_file

A = np.arange(3.0)


def names(value, folder, protocol=2):
    return list(arrays_of_pickled_bytes(folder / "a.pkl", pickle.dumps(value, protocol), 0)[0])


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

    assert list(arrays_of_pickled_bytes(tmp_path / "a.pkl", content, 0)[0]) == ["1.w", "2.0"]


def test_what_follows_and_is_no_pickle_is_refused(tmp_path):
    """Arrays may lie there, as joblib writes them."""
    with pytest.raises(CheckpointError, match="the pickle is damaged"):
        arrays_of_pickled_bytes(tmp_path / "a.pkl", pickle.dumps({"w": np.ones(2)}) + b"\x93raw bytes", 0)


def test_texts_beside_the_arrays_are_left_out_by_name_and_arrays_of_arrays_are_opened(tmp_path):
    """The names of the classes lie beside many networks."""
    ragged = np.array([np.ones(2), np.ones(3)], dtype=object)
    content = pickle.dumps({"w": np.ones(2), "classes": np.array(["a", "b"]), "layers": ragged})

    found, left_out = arrays_of_pickled_bytes(tmp_path / "a.pkl", content, 0)

    assert (list(found), left_out) == (["w", "layers.0", "layers.1"], ["classes"])
