"""SavedModels without variables, and their two names."""

import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.errors import CheckpointError
from regraft.formats.savedmodel import SavedModel
from regraft.reading import open_checkpoint
from tables import write_bundle


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
