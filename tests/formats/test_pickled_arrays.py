"""Pickles of arrays in containers: names, collisions, depth."""

import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.pickled_arrays import arrays_of_pickled_bytes, arrays_of_pickled_file

A = np.arange(3.0)


def names(value, folder, protocol=2):
    return list(arrays_of_pickled_bytes(folder / "a.pkl", pickle.dumps(value, protocol), 0))


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
