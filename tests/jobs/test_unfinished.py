"""The finished epochs beside a run."""

import pytest
import torch

from regraft.errors import SaveError
from regraft.jobs.unfinished import Unfinished


@pytest.fixture
def unfinished(tmp_path):
    """A folder with the two files."""
    made = Unfinished(tmp_path / "run")
    made.folder.mkdir()
    torch.save({}, made.folder / "training.pt")
    made.epochs.write_text("epoch\n0\n")
    return made


def test_epochs_are_lost_only_where_that_is_asked_for(unfinished):
    """Or kept, to go on with them."""
    with pytest.raises(SaveError, match="has the finished epochs of a training that was interrupted"):
        unfinished.begin(resume=False, overwrite=False)
    unfinished.begin(resume=True, overwrite=False)
    assert unfinished.has_epochs()
    unfinished.begin(resume=False, overwrite=True)
    assert not unfinished.folder.exists()
    unfinished.begin(resume=False, overwrite=False)


def test_nothing_else_is_removed(unfinished):
    """A file that somebody put there stays."""
    (unfinished.folder / "notes.txt").write_text("mine")
    unfinished.remove()
    assert [path.name for path in unfinished.folder.iterdir()] == ["notes.txt"]
    assert unfinished.folder.name == "run.unfinished"
