"""The numbers of each epoch in files and services."""

import csv
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from regraft import Steps, train
from regraft.errors import TrainError
from regraft.learning.callbacks import EpochEnd
from regraft.learning.loggers import CsvLogger, MlflowLogger, TensorBoardLogger, WandbLogger, loggers_named

DATA = (torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)


def run(*loggers):
    """Two epochs."""
    solver = Steps(epochs=2, callbacks=loggers)
    return train(nn.Linear(3, 2), DATA, validation=DATA, task="classification", solver=solver)


def test_a_csv_has_a_row_for_each_epoch(tmp_path):
    """The numbers to the last bit."""
    history = run(CsvLogger(tmp_path / "logs/epochs.csv"))
    with (tmp_path / "logs/epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [float(row["train_loss"]) for row in rows] == list(history.train_loss)
    assert [float(row["validation_loss"]) for row in rows] == list(history.validation_loss)


def test_a_resumed_training_continues_the_csv(tmp_path):
    """An epoch that is run again has one row."""
    for epoch in (0, 1, 2, 1, 2):
        CsvLogger(tmp_path / "a.csv").epoch_end(EpochEnd(epoch, 3, {"train_loss": epoch / 2}))
    text = (tmp_path / "a.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in text] == ["epoch", "0", "1", "2"]


def test_tensorboard_reads_the_curves(tmp_path):
    """By its own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run(TensorBoardLogger(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    points = events.Scalars("train_loss")
    assert [point.step for point in points] == [0, 1]
    assert [point.value for point in points] == pytest.approx(history.train_loss, rel=1e-6)  # stored as float32


def test_wandb_and_mlflow_are_called_by_their_own_clients(monkeypatch):
    """Begin, a log for each epoch, end."""
    calls = []

    def note(name, result=None):
        return lambda *args, **options: calls.append((name, options)) or result

    session = SimpleNamespace(log=note("log"), finish=note("finish"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=note("init", session)))
    mlflow = {name: note(name) for name in ("start_run", "log_params", "log_metrics", "end_run")}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(**mlflow))
    run(WandbLogger(project="p"), MlflowLogger(run_name="r"))
    assert [name for name, _ in calls] == [
        "init", "start_run", "log_params", "log", "log_metrics", "log", "log_metrics", "finish", "end_run",
    ]  # fmt: skip
    assert calls[0][1]["project"] == "p"
    assert [options["step"] for name, options in calls if name == "log"] == [0, 1]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_without_its_library_says_what_to_install(monkeypatch, name, tmp_path):
    """None is required."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainError, match=f"pip install {name}"):
        loggers_named([name], tmp_path)
