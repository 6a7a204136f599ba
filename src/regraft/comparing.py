"""Compares finished runs: their results side by side, and whether a difference is more than chance."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from regraft.errors import SaveError
from regraft.foundation.wording import counted, plus_minus, seconds_text
from regraft.reporting import write_report
from regraft.reports.record import PARTS, RunRecord, Variant
from regraft.saving import ANSWERS_FILE, METRICS_FILE

Answers = dict[str, tuple[str, bool]]  # name of an example → its class, whether the answer was right


@dataclass(frozen=True)
class FinishedRun:
    """The results of a run folder.

    part     of the data whose accuracy this is: "test", or "validation" where there is no test
    answers  for the examples of that part; {} for a run that recorded none
    """

    name: str
    part: str
    accuracy: float
    standard_error: float
    count: int
    loss: float
    trained: int
    epochs: int
    seconds: float
    answers: Answers


@dataclass(frozen=True)
class AccuracyDifference:
    """The accuracy of one run minus that of the first one.

    gained, lost  examples that only this run, or only the first one, answers rightly; None where the runs were not
                  scored on the same examples
    """

    value: float
    standard_error: float
    gained: int | None = None
    lost: int | None = None

    def __str__(self) -> str:
        value, error = plus_minus(self.value, self.standard_error)
        sign = "+" if self.value > 0 else ""
        if self.gained is None:
            return f"{sign}{value} ± {error} (scored on other examples)"
        return f"{sign}{value} ± {error} ({self.gained} gained, {self.lost} lost)"


@dataclass(frozen=True)
class RunComparison:
    """Several runs; `differences` has one for each run but the first."""

    runs: tuple[FinishedRun, ...]
    differences: tuple[AccuracyDifference, ...]

    def __str__(self) -> str:
        rows = [("run", "accuracy", "examples", "trains", "epochs", "time")]
        for run in self.runs:
            accuracy = "{} ± {}".format(*plus_minus(run.accuracy, run.standard_error))
            scale = f"{run.count:,} {run.part}"
            rows.append((run.name, accuracy, scale, f"{run.trained:,}", f"{run.epochs}", seconds_text(run.seconds)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines += [
            f"{run.name} - {self.runs[0].name}: {difference}"
            for run, difference in zip(self.runs[1:], self.differences, strict=True)
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        names = ("name", "part", "accuracy", "standard_error", "count", "loss", "trained", "epochs", "seconds")
        runs = [{name: getattr(run, name) for name in names} for run in self.runs]
        return {"runs": runs, "differences": [vars(difference) for difference in self.differences]}

    def write_page(self, path: Path) -> None:
        """Write an HTML page with the runs side by side."""
        notes = ["", *(f"{difference} against {self.runs[0].name}" for difference in self.differences)]
        variants = tuple(
            Variant(run.name, run.accuracy, run.standard_error, run.seconds, note=note)
            for run, note in zip(self.runs, notes, strict=True)
        )
        write_report(path, RunRecord(title=f"{counted(len(self.runs), 'run')} compared", comparison=variants))


def compare_runs(folders: Sequence[str | Path]) -> RunComparison:
    """The results of run folders side by side, and how each differs from the first one.

    Where two runs were scored on the same examples, the standard error of their difference counts only those examples
    on which they disagree (a paired comparison, as McNemar's test); else both errors are added.

    Raises SaveError for a folder that is no run, or whose run has no accuracy.
    """
    names = _short_names(folders)
    runs = tuple(_read_run(Path(folder), name) for folder, name in zip(folders, names, strict=True))
    return RunComparison(runs, tuple(_difference(runs[0], run) for run in runs[1:]))


def _short_names(folders: Sequence[str | Path]) -> list[str]:
    """The folders without the beginning that they share."""
    parts = [Path(folder).resolve().parts for folder in folders]
    shared = 0
    while len({part[: shared + 1] for part in parts}) == 1 and shared + 1 < min(map(len, parts)):
        shared += 1
    return ["/".join(part[shared:]) for part in parts]


def _read_run(folder: Path, name: str) -> FinishedRun:
    path = folder / METRICS_FILE
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        part = next((part for part in PARTS if metrics.get(part)), None)
        if part is None:
            raise SaveError(f"The run {folder} has no accuracy: it was trained without test and validation data.")
        score = metrics[part]
        return FinishedRun(
            name=name,
            part=part,
            accuracy=float(score["accuracy"]),
            standard_error=float(score["standard_error"]),
            count=int(score["count"]),
            loss=float(score["loss"]),
            trained=int((metrics.get("parameters") or {}).get("trained", 0)),
            epochs=int(metrics["epochs"]),
            seconds=float(sum(metrics["seconds"].values())),
            answers=_read_answers(folder / ANSWERS_FILE),
        )
    except OSError as error:
        raise SaveError(f"{folder} is no run: {path.name} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SaveError(f"{path} is damaged: {type(error).__name__}: {error}. Run the job again.") from error


def _read_answers(path: Path) -> Answers:
    """The answers in a file; {} where there is none."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["name"]: (row["true"], row["true"] == row["predicted"]) for row in csv.DictReader(file)}


def _difference(first: FinishedRun, other: FinishedRun) -> AccuracyDifference:
    value = other.accuracy - first.accuracy
    classes = [{name: true for name, (true, _) in run.answers.items()} for run in (first, other)]
    if not first.answers or classes[0] != classes[1]:
        return AccuracyDifference(value, sqrt(first.standard_error**2 + other.standard_error**2))
    rights = [(first.answers[name][1], right) for name, (_, right) in other.answers.items()]
    gained, lost = rights.count((False, True)), rights.count((True, False))
    count = len(rights)
    return AccuracyDifference(value, sqrt(max(0.0, gained + lost - (gained - lost) ** 2 / count)) / count, gained, lost)
