"""The one-file format of TF1: slices, shards, damage."""

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.tensorflow_v1 import TensorFlowV1
from tables import field, shape_message, table, write_bundle, write_v1

ARRAYS = {"w": np.arange(12, dtype=np.float32).reshape(4, 3), "b": np.array(3, np.float32)}


def test_slices_are_joined(tmp_path):
    """With a note."""
    checkpoint = TensorFlowV1().open(write_v1(tmp_path / "m.ckpt", ARRAYS, split="w"))

    np.testing.assert_array_equal(checkpoint.read("w"), ARRAYS["w"], strict=True)
    assert checkpoint["w"].note == "joined from 2 slices"


def test_shards_are_opened_by_their_prefix(tmp_path):
    """Each has a list of its own."""
    for number, name in enumerate(ARRAYS):
        write_v1(tmp_path / f"m.ckpt-{number:05d}-of-00002", {name: ARRAYS[name]})

    for path in (tmp_path / "m.ckpt", tmp_path / "m.ckpt-?????-of-00002"):  # the second is what the saver returns
        assert TensorFlowV1().recognises(path, b"")
        checkpoint = TensorFlowV1().open(path)
        assert set(checkpoint) == set(ARRAYS)
        assert len(checkpoint.files) == 2


def test_an_array_of_two_shards_is_refused(tmp_path):
    """Which of them counts is not guessed."""
    for number in range(2):
        write_v1(tmp_path / f"m.ckpt-{number:05d}-of-00002", ARRAYS)

    with pytest.raises(CheckpointError, match="w is in several shards"):
        TensorFlowV1().open(tmp_path / "m.ckpt")


def test_a_v2_index_is_not_taken_for_it(tmp_path):
    """Both are tables."""
    prefix = write_bundle(tmp_path / "m", ARRAYS | {"b": np.zeros(1, np.float32)})

    assert not TensorFlowV1().recognises(prefix.with_suffix(".index"), b"")


def listed(shape, *slices, dtype=1):
    """A table whose list has one variable, without its values."""
    told = b"".join(field(4, b"".join(field(1, field(1, s) + field(2, n)) for s, n in one)) for one in slices)
    meta = field(1, b"w") + field(2, shape_message(shape)) + field(3, dtype) + told
    return table({b"": field(1, field(1, meta))})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (listed((4,), [(0, 2)]), r"slices of w do not fill its shape \(4,\)"),
        (listed((4,), [(0, 2)], [(3, 2)]), "do not fill its shape"),
        (listed((4,)), "do not fill its shape"),
        (listed((1 << 45,), [(0, 1 << 45)]), "more than the file has bytes"),
        (table({b"": b""}), "lists no variables"),
    ],
)
def test_a_list_that_cannot_be_is_refused(tmp_path, content, told):
    """When it is opened."""
    (tmp_path / "m.ckpt").write_bytes(content)

    with pytest.raises(CheckpointError, match=told):
        TensorFlowV1().open(tmp_path / "m.ckpt")


def test_values_that_are_missing_are_said_when_they_are_read(tmp_path):
    """With the variable's name."""
    (tmp_path / "m.ckpt").write_bytes(listed((4,), [(0, 4)]))

    with pytest.raises(CheckpointError, match=r"m\.ckpt: the values of w are not in the file"):
        TensorFlowV1().open(tmp_path / "m.ckpt").read("w")


def test_texts_are_left_out_with_a_note(tmp_path):
    """They are no numbers."""
    meta = field(1, b"words") + field(2, shape_message((1,))) + field(3, 7) + field(4, field(1, b""))
    (tmp_path / "m.ckpt").write_bytes(table({b"": field(1, field(1, meta))}))

    checkpoint = TensorFlowV1().open(tmp_path / "m.ckpt")

    assert not checkpoint
    assert "left out: words" in checkpoint.notes[0]
