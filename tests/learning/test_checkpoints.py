"""The file of a training's state."""

import pytest
import torch

from regraft.errors import TrainError
from regraft.learning.checkpoints import CheckpointFile, Checkpoints

STATE = {"seconds": [1.0, 2.0], "weights": torch.ones(3)}


def opened(folder, *, resume=True, identity=None, least_s=0.0):
    return CheckpointFile(Checkpoints(folder, resume=resume, least_s=least_s), identity or {"seed": "0"})


def test_what_is_kept_is_read_again(tmp_path):
    """One file, without a temporary one beside it."""
    opened(tmp_path).keep(STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]
    assert torch.equal(opened(tmp_path).read()["weights"], STATE["weights"])


def test_short_epochs_are_written_now_and_then_and_at_the_end(tmp_path):
    """The disk is slower than a small head."""
    file = opened(tmp_path, least_s=1000)
    file.keep(STATE)
    file.keep({**STATE, "seconds": [1.0, 2.0, 3.0]})
    assert opened(tmp_path).read() is None
    file.flush()
    file.flush()
    assert len(opened(tmp_path).read()["seconds"]) == 3


def test_a_folder_is_never_begun_anew_in_silence(tmp_path):
    """The finished epochs would be lost."""
    assert opened(tmp_path / "new", resume=False).read() is None
    opened(tmp_path).keep(STATE)
    with pytest.raises(TrainError, match=r"has 2 finished epochs .*resume=True"):
        opened(tmp_path, resume=False).read()


def test_a_damaged_file_is_named(tmp_path):
    """And a file that holds code is not run."""
    (tmp_path / "training.pt").write_bytes(b"no checkpoint")
    with pytest.raises(TrainError, match=r"training\.pt is no checkpoint of a training, or damaged"):
        opened(tmp_path).read()
    torch.save({"form": 1, "code": print}, tmp_path / "training.pt")
    with pytest.raises(TrainError, match="damaged"):
        opened(tmp_path).read()
    torch.save({"form": 0}, tmp_path / "training.pt")
    with pytest.raises(TrainError, match="another version"):
        opened(tmp_path).read()


def test_a_failed_write_leaves_the_last_state(tmp_path, monkeypatch):
    """Whole or not at all."""
    opened(tmp_path).keep(STATE)
    monkeypatch.setattr(torch, "save", lambda *args: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        opened(tmp_path).keep({**STATE, "seconds": []})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]
    assert len(opened(tmp_path).read()["seconds"]) == 2
