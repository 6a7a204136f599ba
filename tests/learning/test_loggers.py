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


class Clients:
    """Stand-ins with the interfaces of wandb 0.31 and mlflow 3.17, with which the loggers were tried offline."""

    def __init__(self, monkeypatch, *, is_active=False):
        self.calls = []
        session = SimpleNamespace(
            log=lambda numbers, step: self.note("wandb.log", numbers, step=step),
            finish=lambda exit_code=None: self.note("wandb.finish", exit_code=exit_code),
            config=SimpleNamespace(update=lambda values, allow_val_change: self.note("wandb.config", values)),
        )

        def init(config, **options):
            self.note("wandb.init", config, **options)
            return session

        wandb = SimpleNamespace(run=session if is_active else None, init=init)
        mlflow = SimpleNamespace(
            active_run=lambda: object() if is_active else None,
            start_run=lambda **options: self.note("mlflow.start_run", **options),
            log_params=lambda values: self.note("mlflow.log_params", values),
            log_metrics=lambda values, step: self.note("mlflow.log_metrics", values, step=step),
            end_run=lambda status: self.note("mlflow.end_run", status=status),
        )
        monkeypatch.setitem(sys.modules, "wandb", wandb)
        monkeypatch.setitem(sys.modules, "mlflow", mlflow)

    def note(self, name, *args, **options):
        self.calls.append((name, *args, options))

    def names(self):
        return [name for name, *_ in self.calls]


def test_wandb_and_mlflow_are_called_by_their_own_clients(monkeypatch):
    """Begin, a log for each epoch, end."""
    clients = Clients(monkeypatch)
    history = run(WandbLogger(project="p"), MlflowLogger(run_name="r"))
    assert clients.names() == [
        "wandb.init", "mlflow.start_run", "mlflow.log_params", "wandb.log", "mlflow.log_metrics", "wandb.log",
        "mlflow.log_metrics", "wandb.finish", "mlflow.end_run",
    ]  # fmt: skip
    assert clients.calls[0][-1] == {"project": "p"}
    logs = [(numbers["train_loss"], options["step"]) for name, numbers, options in clients.calls[3:7] if "log" in name]
    assert sorted({*logs}, key=lambda log: log[1]) == list(zip(history.train_loss, (0, 1), strict=True))
    assert clients.calls[-2:] == [("wandb.finish", {"exit_code": 0}), ("mlflow.end_run", {"status": "FINISHED"})]


def test_a_run_that_is_open_already_is_used_and_left_open(monkeypatch):
    """As in `with mlflow.start_run():` around the training."""
    clients = Clients(monkeypatch, is_active=True)
    run(WandbLogger(), MlflowLogger())
    assert not {"wandb.init", "wandb.finish", "mlflow.start_run", "mlflow.end_run"} & {*clients.names()}
    assert clients.names().count("wandb.log") == clients.names().count("mlflow.log_metrics") == 2


def test_an_interrupted_training_ends_its_run_as_failed(monkeypatch):
    """The services show what did not come to its end."""

    def stop(end):
        raise KeyboardInterrupt

    clients = Clients(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(WandbLogger(project="p"), MlflowLogger(run_name="r"), stop)
    assert clients.calls[-2:] == [("wandb.finish", {"exit_code": 1}), ("mlflow.end_run", {"status": "FAILED"})]


def test_mlflow_gets_names_and_values_that_it_takes(monkeypatch):
    """Names without other letters, and parameters that are not too long."""
    clients = Clients(monkeypatch)
    logger = MlflowLogger(run_name="r")
    logger.train_begin({"solver": "x" * 9000})
    logger.epoch_end(EpochEnd(0, 1, {"f1 (of 1%)": 0.5}))
    assert len(clients.calls[1][1]["solver"]) == 500
    assert clients.calls[2][1] == {"f1 _of 1__": 0.5}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_without_its_library_says_what_to_install(monkeypatch, name, tmp_path):
    """None is required."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainError, match=f"pip install {name}"):
        loggers_named([name], "run", tmp_path)
