"""Callbacks that write the numbers of each epoch: into a .csv, to TensorBoard, Weights & Biases or MLflow."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, final

from regraft.errors import TrainError
from regraft.foundation.files import write_whole
from regraft.learning.callbacks import Callback, EpochEnd
from regraft.learning.history import History

LONGEST_PARAMETER = 500  # letters; MLflow refuses longer ones (6,000 since version 2.9)
UNFIT = re.compile(r"[^\w\-. :/]")  # letters that no name of a metric has in MLflow


@final
class CsvLogger(Callback):
    """A row for each epoch in a .csv file: epoch, seconds and the numbers. A resumed training continues the file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._names: list[str] = []  # of the columns, once this object has written a row

    def epoch_end(self, end: EpochEnd) -> None:
        """Append a row; the first one replaces those of epochs that are run again."""
        row = {"epoch": str(end.epoch), "seconds": f"{end.seconds:.3f}", **{k: repr(v) for k, v in end.numbers.items()}}
        if self._names == list(row):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(self._lines(row))
            return
        before = [old for old in self._rows() if int(old["epoch"]) < end.epoch] if end.epoch else []
        self._names = list(row)
        write_whole(self.path, self._lines(dict(zip(row, row, strict=True)), *before, row))

    def _lines(self, *rows: dict[str, str]) -> str:
        text = StringIO()
        csv.DictWriter(text, self._names, extrasaction="ignore", lineterminator="\n").writerows(rows)
        return text.getvalue()

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@final
class TensorBoardLogger(Callback):
    """The numbers of each epoch for TensorBoard: `tensorboard --logdir FOLDER`.

    Raises TrainError without the library tensorboard.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainError("TensorBoardLogger writes by the library tensorboard: pip install tensorboard") from error
        self.folder, self._make = str(folder), SummaryWriter
        self._writer: Any = None

    def train_begin(self, settings: Mapping[str, object]) -> None:
        """Open the folder, and write the settings as a text."""
        self._writer = self._make(self.folder)
        self._writer.add_text("settings", "  \n".join(f"{name}: {value}" for name, value in settings.items()))

    def epoch_end(self, end: EpochEnd) -> None:
        """A point of each curve."""
        for name, value in end.numbers.items():
            self._writer.add_scalar(name, value, end.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


@final
class WandbLogger(Callback):
    """The numbers of each epoch in a run of Weights & Biases, by its own client.

    options  of `wandb.init`: project="…", mode="offline". Without any, a run that is open already is used and left open

    Raises TrainError without the library wandb.
    """

    def __init__(self, **options: object) -> None:
        try:
            import wandb
        except ImportError as error:
            raise TrainError("WandbLogger writes by the library wandb: pip install wandb") from error
        self._wandb, self.options = wandb, options
        self._run: Any = None
        self._is_own, self._has_ended = True, False

    def train_begin(self, settings: Mapping[str, object]) -> None:
        """Begin a run with the settings as its configuration."""
        self._has_ended, self._is_own = False, bool(self.options) or self._wandb.run is None
        if self._is_own:
            self._run = self._wandb.init(config=dict(settings), **self.options)
        else:
            self._run = self._wandb.run
            self._run.config.update(dict(settings), allow_val_change=True)

    def epoch_end(self, end: EpochEnd) -> None:
        """Log the numbers with the epoch as their step."""
        self._run.log(dict(end.numbers), step=end.epoch)

    def train_end(self, history: History) -> None:
        """The training has come to its end."""
        self._has_ended = True

    def close(self) -> None:
        """Finish the run, as failed where the training did not come to its end."""
        if self._run is not None and self._is_own:
            self._run.finish(exit_code=0 if self._has_ended else 1)


@final
class MlflowLogger(Callback):
    """The numbers of each epoch in a run of MLflow, by its own client.

    options  of `mlflow.start_run`: run_name="…", experiment_id="…". Without any, a run that is active already is used
             and left active

    Raises TrainError without the library mlflow.
    """

    def __init__(self, **options: object) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise TrainError("MlflowLogger writes by the library mlflow: pip install mlflow") from error
        self._mlflow, self.options = mlflow, options
        self._is_own = self._has_ended = False

    def train_begin(self, settings: Mapping[str, object]) -> None:
        """Begin a run with the settings as its parameters, each cut to the length that MLflow takes."""
        self._has_ended, self._is_own = False, bool(self.options) or self._mlflow.active_run() is None
        if self._is_own:
            self._mlflow.start_run(**self.options)
        self._mlflow.log_params({name: str(value)[:LONGEST_PARAMETER] for name, value in settings.items()})

    def epoch_end(self, end: EpochEnd) -> None:
        """Log the numbers with the epoch as their step."""
        self._mlflow.log_metrics({UNFIT.sub("_", name): value for name, value in end.numbers.items()}, step=end.epoch)

    def train_end(self, history: History) -> None:
        """The training has come to its end."""
        self._has_ended = True

    def close(self) -> None:
        """End the run, as failed where the training did not come to its end."""
        if self._is_own:
            self._mlflow.end_run(status="FINISHED" if self._has_ended else "FAILED")
            self._is_own = False


def loggers_named(names: Sequence[str], run: str, folder: Path) -> list[Callback]:
    """The loggers of a job. Raises TrainError for one whose library is not installed.

    run     the name of the run in Weights & Biases and MLflow
    folder  in which TensorBoard's files have a folder
    """
    made: dict[str, Callable[[], Callback]] = {
        "tensorboard": lambda: TensorBoardLogger(folder / "tensorboard"),
        "wandb": lambda: WandbLogger(name=run),
        "mlflow": lambda: MlflowLogger(run_name=run),
    }
    return [made[name]() for name in names]
