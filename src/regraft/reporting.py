"""One self-contained HTML page about a run: readable without scripts, network, or regraft.

The record says what happened, this module decides what is shown of it, `report.html.jinja` says how it looks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from regraft.evaluating import Score
from regraft.foundation.files import write_whole
from regraft.foundation.wording import bytes_text, number_text, plus_minus, seconds_text, shape_text, share_text
from regraft.learning.history import History
from regraft.reports.charts import Curves, Strip, Strips, curves, reliability, strips, thinned
from regraft.reports.gallery import Gallery
from regraft.reports.plan_rows import group_rows, row_kind, row_shape
from regraft.reports.record import RunRecord, Variant, dtype_text, known_accuracies
from regraft.reports.scatter import Scatter, scatter
from regraft.reports.task_results import MAIN, TaskResult, measure_name

LISTED_EPOCHS = 100


def write_report(path: Path | str, record: RunRecord) -> None:
    """Write the page about `record` to `path`, whole or not at all; the same record gives the same bytes.

    Raises OSError as the system gives it.
    """
    # A file name that is not valid UTF-8 reaches Python as lone surrogates, which UTF-8 cannot hold.
    write_whole(Path(path), page_of(record).encode("utf-8", "backslashreplace"))


def page_of(record: RunRecord) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined

    # autoescape: names of classes, layers and files may contain <, > and &.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        bytes=bytes_text, seconds=seconds_text, share=share_text, shape=shape_text, measure=measure_name,
        number=number_text, dtype=dtype_text,
    )  # fmt: skip
    source = resources.files("regraft.reports").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return _squeezed(environment.from_string(source).render(run=record, **_shown(record)))


def _squeezed(page: str) -> str:
    """The page without indentation, except inside <pre>, where it is the user's."""
    parts = re.split(r"(<pre.*?</pre>)", page, flags=re.DOTALL)
    return "".join(part if part.startswith("<pre") else re.sub(r"\n\s+", "\n", part) for part in parts)


def _shown(record: RunRecord) -> dict[str, object]:
    """What the template needs beyond the record itself."""
    result = record.result
    rows = record.plan.rows if record.plan else ()
    return {
        "scores": {} if result is not None else record.accuracies,
        "result": result and ShownResult(result, record.shown_scores),
        "plus_minus": plus_minus,
        "reused": sum(row.is_reused for row in rows),
        "targets": sum(row.target is not None for row in rows),
        "groups": group_rows(rows),
        "row_kind": row_kind,
        "row_shape": row_shape,
        "course": record.history and course_of(record.history),
        "confusion": record.confusion,
        "baseline": record.baseline,
        "calibration": record.calibration and reliability(record.calibration),
        "pictures": record.outcomes and Gallery(record.outcomes, record.classes),
        "comparison": comparison_of(record.comparison) if record.comparison else None,
        "seconds": _seconds(record.seconds),
    }


@dataclass(frozen=True)
class ShownResult:
    """The result of a task as tables and charts.

    scores  part → its score
    """

    result: TaskResult
    scores: Mapping[str, Score]

    @property
    def main(self) -> tuple[str, str, str]:
        """Heading, value and baseline of the metric that the page begins with."""
        metrics = self.scores[self.result.part].metrics
        name = MAIN.get(self.result.task, "")
        name = name if name in metrics else next(iter(metrics), "")
        if not name:
            return "Loss", number_text(self.scores[self.result.part].loss), ""
        baseline = self.result.baseline.get(name)
        text = f"{self.result.baseline_name}: {number_text(baseline)}" if baseline is not None else ""
        return measure_name(name), number_text(metrics[name]), text

    @property
    def names(self) -> list[str]:
        """The metrics that were computed."""
        return list(dict.fromkeys(name for score in self.scores.values() for name in score.metrics))

    @property
    def headings(self) -> list[str]:
        """Of the columns of the metrics."""
        return list(map(measure_name, self.names))

    @property
    def class_headings(self) -> list[str]:
        """Of the columns of the classes."""
        return list(next(iter(self.result.per_class.values()), {}))

    @property
    def charts(self) -> list[Scatter]:
        """Of a regression."""
        return [scatter(column.name, column.true, column.predicted) for column in self.result.columns]


@dataclass(frozen=True)
class Course:
    """The course of training: charts of loss and accuracy, and the same numbers as table rows.

    charts    (title, chart)
    headings  of the table's columns
    table     (epoch, a value for each column, what trains from this epoch on or None)
    """

    charts: list[tuple[str, Curves]]
    headings: list[str]
    table: list[tuple[int, list[float | None], str | None]]
    epochs: int


def course_of(history: History) -> Course:
    """What the page shows of a history."""
    accuracies = known_accuracies(history)
    named = {
        "Training loss": history.train_loss,
        "Validation loss": history.validation_loss,
        "Validation accuracy": accuracies,
    }
    columns = {heading: values for heading, values in named.items() if values}
    epochs = max(map(len, columns.values()), default=0)
    began = {stage.epoch: " | ".join(stage.layers) for stage in history.stages}
    best = set(range(epochs)) & {history.best_epoch}
    table = [
        (epoch, [_at(values, epoch) for values in columns.values()], began.get(epoch))
        for epoch in sorted({*thinned(epochs, LISTED_EPOCHS), *best, *began})
    ]
    return Course(_curves_of(history, accuracies), list(columns), table, epochs)


def _at(values: Sequence[float], epoch: int) -> float | None:
    return values[epoch] if epoch < len(values) else None


def _curves_of(history: History, accuracies: Sequence[float]) -> list[tuple[str, Curves]]:
    """A chart of the losses and one of the accuracies, where there are any."""
    losses = {"training": history.train_loss, "validation": history.validation_loss}
    losses = {name: values for name, values in losses.items() if values}
    charts = [("Loss", curves(losses, best_epoch=history.best_epoch))] if losses else []
    if accuracies:
        chart = curves({"validation": accuracies}, best_epoch=history.best_epoch, limits=(0.0, 1.0))
        charts.append(("Accuracy", chart))
    return charts


@dataclass(frozen=True)
class Comparison:
    """Variants side by side: (title, chart, its rows as name, value in words, strip)."""

    charts: list[tuple[str, Strips, list[tuple[str, str, Strip]]]]
    has_seconds: bool
    has_seeds: bool
    has_notes: bool


def comparison_of(variants: Sequence[Variant]) -> Comparison:
    """Charts of accuracy and, where measured, of seconds."""
    accuracy = strips(
        [variant.accuracy for variant in variants],
        [variant.standard_error for variant in variants],
        [variant.points for variant in variants],
    )
    accuracies = [
        (variant.name, "{} ± {}".format(*plus_minus(variant.accuracy, variant.standard_error))) for variant in variants
    ]
    seconds = _seconds_of(variants)
    return Comparison(
        charts=[("Accuracy", accuracy, _labelled(accuracies, accuracy)), seconds],
        has_seconds=bool(seconds[2]),
        has_seeds=any(variant.points for variant in variants),
        has_notes=any(variant.note for variant in variants),
    )


def _seconds_of(variants: Sequence[Variant]) -> tuple[str, Strips, list[tuple[str, str, Strip]]]:
    """Of the variants that were timed."""
    timed = [(variant.name, variant.seconds) for variant in variants if variant.seconds is not None]
    chart = strips([spent for _, spent in timed])
    return "Seconds", chart, _labelled([(name, seconds_text(spent)) for name, spent in timed], chart)


def _labelled(labels: Sequence[tuple[str, str]], chart: Strips) -> list[tuple[str, str, Strip]]:
    return [(*label, strip) for label, strip in zip(labels, chart.rows, strict=True)]


def _seconds(seconds: Mapping[str, float]) -> dict[str, object]:
    """Each part of the run with its share of the whole."""
    total = sum(seconds.values())
    return {"total": total, "rows": [(name, spent, spent / total if total else 0.0) for name, spent in seconds.items()]}
