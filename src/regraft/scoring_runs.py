"""Score a saved run on other labelled data: prepared as for its training, with the names of its classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from regraft.contracts.text import padding_of
from regraft.datasets.labelled import Labelled, Target
from regraft.datasets.opening import open_data
from regraft.errors import DataError, SaveError
from regraft.evaluating import Score, evaluate
from regraft.foundation.wording import one_line
from regraft.learning.losses import Loss
from regraft.learning.metrics import GivenMetrics
from regraft.model_record import ModelRecord, read_record
from regraft.saving import load


@dataclass(frozen=True)
class RunScore:
    """How good a saved run is on labelled data.

    data    where they are
    target  task and names of classes or columns
    notes   what was left out or assumed in the data
    """

    run: str
    data: str
    score: Score
    target: Target
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the name of each class."""
        score = self.score
        return {
            "run": self.run,
            "data": self.data,
            "task": self.target.task,
            "count": score.count,
            "loss": score.loss,
            "accuracy": score.accuracy,
            "standard_error": score.standard_error,
            "metrics": dict(score.metrics),
            "classes": list(self.target.classes or ()),
            "columns": list(self.target.columns),
            "per_class": [{"class": name, **asdict(values)} for name, values in self._by_name()],
            "confusion": [list(row) for row in score.confusion],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"{self.target.task}: {self.score}"]
        width = max((len(one_line(name)) for name, _ in self._by_name()), default=0)
        if width:
            lines.append(f"{'':<{width}}  precision  recall     f1  support")
        lines += [
            f"{one_line(name):<{width}}  {row.precision:9.3f}  {row.recall:6.3f}  {row.f1:5.3f}  {row.support:7,}"
            for name, row in self._by_name()
        ]
        return "\n".join(lines)

    def _by_name(self) -> list[tuple[str, Any]]:
        names = self.target.classes or ()
        known = self.score.per_class if len(names) == len(self.score.per_class) else ()
        return list(zip(names, known, strict=False))


def score_run(
    run: str | Path,
    data: str | Path,
    *,
    model: nn.Module | None = None,
    loss: Loss = None,
    metrics: GivenMetrics = None,
    labels: Sequence[str] = (),
    skip_unreadable: bool = False,
) -> RunScore:
    """Score a run's model on labelled data, which are prepared as for its training.

    run              a run folder, or a folder that `save` wrote with classes and inputs
    data             a folder, table or array file, in any form that a job takes
    model            a module of your own for the weights; without it the code in the run folder is executed
    loss, metrics    as in `evaluate`; None: those of the task
    labels           columns of a table; by default those of the training table
    skip_unreadable  leave out damaged files, with a note

    Raises SaveError for a folder that does not record what its outputs mean, DataError for data that do not fit.
    """
    folder = Path(run)
    record = read_record(folder)
    dataset = _opened(record, folder, Path(data), labels, skip_unreadable)
    pad = padding_of(dataset.preparation.text)
    made = load(folder, model=model)
    score = evaluate(made, dataset, task=dataset.target.given_task, loss=loss, metrics=metrics, pad=pad)
    return RunScore(str(run), str(data), score, dataset.target, dataset.notes)


def _opened(record: ModelRecord, folder: Path, data: Path, labels: Sequence[str], skip_unreadable: bool) -> Labelled:
    target = record.target
    if target.task is None:
        if not record.classes or record.outputs not in ("classes", None):
            raise SaveError(
                f"{folder} does not record what the outputs of its model mean. Score it in Python: "
                "regraft.evaluate(model, data, task=…)."
            )
        target = replace(target, task="classification")
    if labels and target.parts:
        raise DataError(
            f"The columns of the labels have the names of the model's outputs: {', '.join(target.columns)}."
        )
    if labels:
        target = replace(target, columns=tuple(labels))
    preparation = record.preparation_in(folder)
    return open_data(data, preparation, target=target, skip_unreadable=skip_unreadable)
