"""A job's studies: cross-validation, and scores against the number of labels, on the features of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from regraft.errors import TrainError
from regraft.foundation.wording import counted
from regraft.jobs.sections import StudySection
from regraft.learning.request import Request
from regraft.learning.solvers import Solver, needs_of_validation
from regraft.protocols import CrossValidation, LearningCurve, Spread, cross_validate, learning_curve


@dataclass(frozen=True)
class Study:
    """What a study found.

    title     "5-fold cross-validation of 720 examples"
    headings  of the metrics
    rows      name of a point → metric → mean with its standard error
    """

    title: str
    headings: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Spread]]

    def __str__(self) -> str:
        lines = [
            f"  {name:<12} " + ", ".join(f"{metric} {row[metric]}" for metric in self.headings)
            for name, row in self.rows.items()
        ]
        return "\n".join([self.title, *lines])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = {
            name: {metric: {"mean": row[metric].mean, "standard_error": row[metric].standard_error,
                            "values": list(row[metric].values)} for metric in self.headings}
            for name, row in self.rows.items()
        }  # fmt: skip
        return {"title": self.title, "rows": rows}


def refuse_impossible_studies(section: StudySection, solvers: Sequence[Solver]) -> None:
    """Raise TrainError where a study cannot train as the job does: it has no validation examples."""
    if section.folds is None and section.counts is None:
        return
    problems = [problem for solver in solvers[:1] for problem in needs_of_validation(solver)]
    if problems:
        raise TrainError("[study] trains without validation examples: " + "; ".join(problems) + ".")


def studies_of(
    section: StudySection, trained: nn.Module, examples: Mapping[str, Any], request: Request, solvers: Sequence[Solver],
    pad: Mapping[str, float] | None,
) -> list[Study]:  # fmt: skip
    """The job's studies, each training from the present weights, which are afterwards as before.

    examples  part → what `trained` takes
    """
    training: dict[str, Any] = {
        "task": request.task, "loss": request.loss, "metrics": request.metrics,
        "solver": list(solvers), "pad": pad, "seeds": range(section.seeds),
    }  # fmt: skip
    studies, data = [], examples["train"]
    if section.folds is not None:
        found = cross_validate(trained, data, folds=section.folds, repeats=section.repeats, **training)
        studies.append(_of_folds(found, len(data), section))
    if section.counts is not None:
        part = next((name for name in ("test", "validation") if name in examples), None)
        if part is None:
            raise TrainError("[study] counts are scored on test or validation examples: set [data] test.")
        curve = learning_curve(trained, data, examples[part], counts=section.counts, **training)
        studies.append(_of_counts(curve, part, section))
    return studies


def _of_folds(found: CrossValidation, count: int, section: StudySection) -> Study:
    title = f"{section.folds}-fold cross-validation of {counted(count, 'example')}"
    numbers = ((section.repeats, "repeat"), (section.seeds, "seed"))
    more = [counted(number, noun) for number, noun in numbers if number > 1]
    values = found.metrics
    return Study(", ".join([title, *more]), tuple(values), {"all folds": values})


def _of_counts(curve: LearningCurve, part: str, section: StudySection) -> Study:
    names = ("loss", *curve.scores[0][0].metrics)
    spreads = {name: curve.spread(name) for name in names}
    rows = {
        counted(count, "label"): {name: spreads[name][index] for name in names}
        for index, count in enumerate(curve.counts)
    }
    return Study(f"Learning curve on the {part} set, {counted(section.seeds, 'seed')}", names, rows)
