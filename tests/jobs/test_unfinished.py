"""The finished epochs beside a run."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from regraft import Steps, train
from regraft.errors import SaveError
from regraft.jobs.unfinished import Unfinished
from regraft.learning.loggers import CsvLogger

DATA = (torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2)


@pytest.fixture
def folder(tmp_path):
    """A folder with the two files."""
    unfinished = Unfinished(tmp_path / "run")
    unfinished.folder.mkdir()
    torch.save({}, unfinished.folder / "training.pt")
    unfinished.epochs.write_text("epoch\n0\n")
    return unfinished.folder


def test_epochs_are_lost_only_where_that_is_asked_for(tmp_path, folder):
    """Or kept, to go on with them."""
    with (
        pytest.raises(SaveError, match="has the finished epochs of a training that was interrupted"),
        Unfinished(tmp_path / "run"),
    ):
        raise AssertionError("refused before the block")
    with pytest.raises(KeyboardInterrupt), Unfinished(tmp_path / "run", resume=True) as unfinished:
        raise KeyboardInterrupt
    assert unfinished.has_epochs()
    with Unfinished(tmp_path / "run", overwrite=True):
        assert not folder.exists()


def test_nothing_else_is_removed(tmp_path, folder):
    """A file that somebody put there stays; what a killed process left of ours does not."""
    (folder / "notes.txt").write_text("mine")
    (folder / ".training.pt.40-ab").write_text("half of it")
    with Unfinished(tmp_path / "run", overwrite=True):
        pass
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def trained(out, *, resume=False, least_s=0.0):
    """Weights after two epochs, as a job trains."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    with Unfinished(out, resume=resume) as unfinished:
        steps = Steps(epochs=2, checkpoints=replace(unfinished.checkpoints(), least_s=least_s))
        steps = replace(steps, callbacks=[CsvLogger(unfinished.epochs)])
        train(model, DATA, task="classification", solver=steps)
    return model.weight.detach()


@pytest.mark.parametrize("least_s", [0.0, 600.0])  # written after each epoch, or when the training ends
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(Path, "mkdir"), (Path, "open"), (csv.DictWriter, "writerows"), (torch, "save"), (os, "fsync"), (Path, "replace")],
)
def test_a_training_that_is_stopped_while_it_writes_leaves_whole_epochs_or_nothing(
    tmp_path, monkeypatch, owner, name, when, least_s
):
    """Ctrl-C before or after the first call of each function that changes the disk: nothing refuses the next run."""
    real, stops = getattr(owner, name), [KeyboardInterrupt]

    def stopped(*arguments, **options):
        if when == "before" and stops:
            raise stops.pop()
        result = real(*arguments, **options)
        if stops:
            getattr(result, "close", lambda: None)()
            raise stops.pop()
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", least_s=least_s)

    unfinished = Unfinished(tmp_path / "run")
    left = {path.name for path in tmp_path.rglob("*")} - {"epochs.csv"}
    assert left == {"run.unfinished", "training.pt"} or (least_s and not any(tmp_path.iterdir()))
    again = trained(tmp_path / "run", resume=unfinished.has_epochs())
    assert torch.equal(again, trained(tmp_path / "uninterrupted"))
    assert list(tmp_path.iterdir()) == []
