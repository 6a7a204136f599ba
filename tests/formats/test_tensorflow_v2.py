"""Which checkpoint of a folder is meant."""

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.tensorflow_v2 import TensorFlowV2
from tables import write_bundle

ONE, TWO = {"one": np.zeros(1, np.float32)}, {"two": np.zeros(1, np.float32)}


def test_the_checkpoint_file_chooses(tmp_path):
    """Also when the folder was moved, since only the file's name counts."""
    write_bundle(tmp_path / "m-1", ONE)
    write_bundle(tmp_path / "m-2", TWO)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/m-2"\nall_model_checkpoint_paths: "m-1"\n')

    assert list(TensorFlowV2().open(tmp_path)) == ["two"]


@pytest.mark.parametrize("told", ["", 'model_checkpoint_path: "m-9"', 'model_checkpoint_path: "../../etc/passwd"'])
def test_several_checkpoints_without_a_choice_are_listed(tmp_path, told):
    """A choice that is not there is none."""
    write_bundle(tmp_path / "m-1", ONE)
    write_bundle(tmp_path / "m-2", TWO)
    (tmp_path / "checkpoint").write_text(told)

    with pytest.raises(CheckpointError, match=r"holds 2 TensorFlow checkpoints(.|\n)*m-1\n(.|\n)*m-2\n"):
        TensorFlowV2().open(tmp_path)


def test_a_prefix_without_an_index_is_said(tmp_path):
    """By name."""
    with pytest.raises(CheckpointError, match="no index file of this name"):
        TensorFlowV2().open(tmp_path / "m")
