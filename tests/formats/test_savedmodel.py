"""SavedModels without variables, and their two names."""

import json

import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.errors import CheckpointError
from regraft.formats.savedmodel import FILE_NAME, SavedModel, described_model
from regraft.reading import open_checkpoint
from tables import field, write_bundle


def test_the_folder_and_its_program_open_the_same(tmp_path):
    """A user may name either."""
    (tmp_path / "variables").mkdir()
    write_bundle(tmp_path / "variables" / "variables", {"w": np.zeros(2, np.float32)})
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")

    for path in (tmp_path, tmp_path / "saved_model.pb"):
        assert open_checkpoint(path).format == "savedmodel"


def test_a_frozen_model_is_answered_with_what_to_do(tmp_path):
    """Its weights are in the program."""
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")

    with pytest.raises(CheckpointError, match=r"holds no variables(.|\n)*frozen model(.|\n)*export it"):
        SavedModel().open(tmp_path)


def test_a_description_beside_the_program_tells_the_wiring():
    """So that match="structure" finds its layers under any name."""
    told = SavedModel().open(GOLDEN / "tf_keras_savedmodel").requirements

    assert {one.layer: one.value for one in told if one.attribute == "inputs"} == {
        "conv": [""], "depthwise": ["conv"], "norm": ["depthwise"], "up": ["norm"], "flat": ["up"], "hidden": ["flat"],
        "logits": ["hidden"],
    }  # fmt: skip


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
