"""Keras 2's description beside a SavedModel."""

import json

import pytest

from golden_files import GOLDEN
from regraft.errors import CheckpointError
from regraft.formats.keras_metadata import FILE_NAME, described_model
from tables import field


def written(folder, text, path=b"root"):
    (folder / FILE_NAME).write_bytes(field(1, field(3, path) + field(5, text)))
    return folder


def test_the_description_that_keras_wrote():
    """Tuples are lists again."""
    model = described_model(GOLDEN / "tf_keras_savedmodel")

    assert [child.name for child in model.children][:3] == ["image", "conv", "depthwise"]
    assert model.child("conv").settings["strides"] == [2, 2]


def test_without_a_description_there_is_none(tmp_path):
    """No file, no root, a class of the user's own."""
    assert described_model(tmp_path) is None
    assert described_model(written(tmp_path, b"{}", path=b"root.layer-0")) is None
    assert described_model(written(tmp_path, json.dumps({"class_name": "Mine", "config": None}).encode())) is None


@pytest.mark.parametrize("text", [b"{", b"[" * 100_000, b'{"class_name": "Sequential", "config": {"layers": [{}, 3]}}'])
def test_damaged_descriptions_are_refused(tmp_path, text):
    """With the file's name; an entry that is no layer is passed over."""
    try:
        model = described_model(written(tmp_path, text))
    except CheckpointError as error:
        assert FILE_NAME in str(error)  # noqa: PT017 - either is right
    else:
        assert model.children == []


def test_damaged_bytes_are_refused(tmp_path):
    """By the protobuf's own rules."""
    (tmp_path / FILE_NAME).write_bytes(b"\x0a\x7f")

    with pytest.raises(CheckpointError, match=r"keras_metadata\.pb: a message ends"):
        described_model(tmp_path)
