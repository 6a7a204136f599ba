"""One self-contained HTML page about a run: readable without scripts, network, or regraft.

The record says what happened, this module decides what is shown of it, `report.html.jinja` says how it looks.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from regraft.files import write_whole
from regraft.reports.charts import curves, heat_paths, shade, strips, thinned
from regraft.reports.record import HistoryRecord, PlanRowRecord, RunRecord, ScoreRecord, VariantRecord
from regraft.wording import bytes_text, number_text, plus_minus, seconds_text, shape_text, share_text

# What a plan's status means for the reader: taken over, left as initialised, left in the file, or wrong.
KINDS = {
    **dict.fromkeys(("exact", "renamed", "converted", "cast", "adapted", "reused"), "reused"),
    **dict.fromkeys(("kept_init", "fresh"), "fresh"),
    **dict.fromkeys(("excluded", "unused", "optimizer_slot"), "left"),
    **dict.fromkeys(
        ("missing", "ambiguous", "shape_mismatch", "tied_conflict", "undecidable_orientation", "nonfinite"), "problem"
    ),
}
OPEN_ROWS = 24  # a plan up to this long is one open table; a longer one is grouped and folded
GROUP_ROWS = 48  # a group longer than this is split by the next part of its names
MOST_GROUPS = 24
NUMBERED_CLASSES = 16  # a matrix with more classes is drawn without numbers …
DRAWN_CLASSES = 200  # … and with still more it is not drawn: a class would be less than two pixels
LISTED_CLASSES = 100
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
        bytes=bytes_text, seconds=seconds_text, share=share_text, shape=shape_text, number=number_text
    )
    source = resources.files("regraft.reports").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return _squeezed(environment.from_string(source).render(run=record, **_shown(record)))


def _squeezed(page: str) -> str:
    """The page without indentation, except inside <pre>, where it is the user's."""
    parts = re.split(r"(<pre.*?</pre>)", page, flags=re.DOTALL)
    return "".join(part if part.startswith("<pre") else re.sub(r"\n\s+", "\n", part) for part in parts)


def _shown(record: RunRecord) -> dict[str, Any]:
    """What the template needs beyond the record itself."""
    main = record.test or record.validation
    rows = record.plan.rows if record.plan else ()
    targets = [row for row in rows if row.target]
    return {
        "main": main,
        "main_name": "test" if record.test else "validation",
        "scores": [
            (name, score) for name, score in (("Test", record.test), ("Validation", record.validation)) if score
        ],
        "plus_minus": plus_minus,
        "reused": sum(kind_of(row) == "reused" for row in targets),
        "targets": len(targets),
        "groups": group_rows(rows),
        "kind_of": kind_of,
        "history": record.history and _history(record.history),
        "confusion": _confusion(main, record.classes) if main and main.confusion else None,
        "comparison": _comparison(record.comparison) if record.comparison else None,
        "seconds": _seconds(record.seconds),
    }


# ---------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class RowGroup:
    """Neighbouring rows of the plan under one name; `counts` says "12 exact, 2 kept_init"."""

    name: str
    rows: tuple[PlanRowRecord, ...]

    @property
    def counts(self) -> str:
        """The statuses and how often each occurs, the most frequent first."""
        return ", ".join(
            f"{count} {status}" for status, count in Counter(row.status for row in self.rows).most_common()
        )

    @property
    def is_open(self) -> bool:
        """Whether the reader should see the rows at once: problems always, fresh layers while they are few."""
        kinds = {kind_of(row) for row in self.rows}
        return "problem" in kinds or ("fresh" in kinds and len(self.rows) <= OPEN_ROWS)


def kind_of(row: PlanRowRecord) -> str:
    """ "reused", "fresh", "left" or "problem": what the row's status means for the reader."""
    return KINDS.get(row.status, "left")


def group_rows(rows: Sequence[PlanRowRecord]) -> list[RowGroup]:
    """The rows by the model's blocks, in order; arrays that stay in the checkpoint come last.

    A short plan is one group without a name.
    """
    if len(rows) <= OPEN_ROWS:
        return [RowGroup("", tuple(rows))] if rows else []
    placed = _by_prefix([row for row in rows if row.target], 1)
    left = tuple(row for row in rows if not row.target)
    return _merged(placed) + ([RowGroup("Left in the checkpoint", left)] if left else [])


def _by_prefix(rows: Sequence[PlanRowRecord], depth: int) -> list[RowGroup]:
    """Groups of rows whose names share their first `depth` parts, deeper where a group is long."""
    blocks: dict[str, list[PlanRowRecord]] = {}
    for row in rows:
        blocks.setdefault(".".join(row.target.split(".")[:depth]), []).append(row)
    groups: list[RowGroup] = []
    for name, block in blocks.items():
        can_split = any(row.target.count(".") > depth for row in block)
        split = len(block) > GROUP_ROWS and can_split
        groups += _by_prefix(block, depth + 1) if split else [RowGroup(name, tuple(block))]
    return groups


def _merged(groups: list[RowGroup]) -> list[RowGroup]:
    """Neighbours joined while they are small and the groups are too many to look through."""
    if len(groups) <= MOST_GROUPS:
        return groups
    size = max(GROUP_ROWS // 2, sum(len(group.rows) for group in groups) // MOST_GROUPS)
    merged: list[list[RowGroup]] = [[]]
    for group in groups:
        if merged[-1] and sum(len(part.rows) for part in merged[-1]) + len(group.rows) > size:
            merged.append([])
        merged[-1].append(group)
    return [
        RowGroup(
            parts[0].name if len(parts) == 1 else f"{parts[0].name} … {parts[-1].name}",
            tuple(row for part in parts for row in part.rows),
        )
        for parts in merged
    ]


# ---------------------------------------------------------------------------------------------- training


def _history(history: HistoryRecord) -> dict[str, Any]:
    """Charts of loss and accuracy, and the same as table rows."""
    losses = {"training": history.train_loss, "validation": history.validation_loss}
    accuracies = {"validation": history.validation_accuracy}
    charts = []
    for title, series, limits in (("Loss", losses, None), ("Accuracy", accuracies, (0.0, 1.0))):
        filled = {name: values for name, values in series.items() if values}
        if filled:
            charts.append((title, curves(filled, best_epoch=history.best_epoch, limits=limits)))
    columns = (history.train_loss, history.validation_loss, history.validation_accuracy)
    epochs = max(len(column) for column in columns)
    listed = set(thinned(epochs, LISTED_EPOCHS))
    if history.best_epoch is not None and 0 <= history.best_epoch < epochs:
        listed.add(history.best_epoch)
    began = {stage.first_epoch: " | ".join(stage.layers) for stage in history.stages}
    table = [
        (epoch, [column[epoch] if epoch < len(column) else None for column in columns if column], began.get(epoch))
        for epoch in sorted(listed | began.keys())
    ]
    names = ("Training loss", "Validation loss", "Validation accuracy")
    headings = [name for name, column in zip(names, columns, strict=True) if column]
    return {"charts": charts, "headings": headings, "table": table, "epochs": epochs}


def _comparison(variants: Sequence[VariantRecord]) -> dict[str, Any]:
    """Charts of accuracy and, where measured, of seconds."""
    accuracy = strips(
        [variant.accuracy for variant in variants],
        [variant.standard_error for variant in variants],
        [variant.points for variant in variants],
    )
    timed = [(variant, variant.seconds) for variant in variants if variant.seconds is not None]
    seconds = strips([spent for _, spent in timed])
    return {
        "charts": [
            (
                "Accuracy",
                accuracy,
                [
                    (variant.name, "{} ± {}".format(*plus_minus(variant.accuracy, variant.standard_error)), strip)
                    for variant, strip in zip(variants, accuracy.rows, strict=True)
                ],
            ),
            (
                "Seconds",
                seconds,
                [
                    (variant.name, seconds_text(spent), strip)
                    for (variant, spent), strip in zip(timed, seconds.rows, strict=True)
                ],
            ),
        ],
        "has_seconds": bool(timed),
        "has_notes": any(variant.note for variant in variants),
    }


def _seconds(seconds: Mapping[str, float]) -> dict[str, Any]:
    """Each part of the run with its share of the whole."""
    total = sum(seconds.values())
    return {"total": total, "rows": [(name, spent, spent / total if total else 0.0) for name, spent in seconds.items()]}


# ---------------------------------------------------------------------------------------------- confusion


@dataclass(frozen=True)
class ClassScore:
    """One class: how many examples it has, how many of them were found, and what they were taken for instead."""

    name: str
    count: int
    found: int
    taken_for: str

    @property
    def recall(self) -> float:
        """Share of the class's examples that were found; 0 without examples."""
        return self.found / self.count if self.count else 0.0


def _confusion(score: ScoreRecord, classes: Sequence[str]) -> dict[str, Any]:
    """The matrix as numbers while it is small, as a picture when large, and what it says about each class."""
    matrix = score.confusion
    size = len(matrix)
    names = [classes[index] if index < len(classes) else str(index) for index in range(size)]
    shares = [[count / (sum(row) or 1) for count in row] for row in matrix]
    by_class = [_class_score(names, index, row) for index, row in enumerate(matrix)]
    pairs = [
        (count, names[true], names[predicted])
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    weakest = sorted((one for one in by_class if one.count), key=lambda one: one.recall)  # stable: ties in class order
    return {
        "names": names,
        "numbered": size <= NUMBERED_CLASSES,
        "table": [
            (one, [(count, _shade_class(true, column, shares[true][column])) for column, count in enumerate(row)])
            for true, (one, row) in enumerate(zip(by_class, matrix, strict=True))
        ],
        "paths": heat_paths(shares) if NUMBERED_CLASSES < size <= DRAWN_CLASSES else {},
        "pairs": sorted(pairs, key=lambda pair: -pair[0])[:10],
        "weakest": weakest[:LISTED_CLASSES],
    }


def _class_score(names: Sequence[str], index: int, row: Sequence[int]) -> ClassScore:
    others = [(count, -column) for column, count in enumerate(row) if column != index and count]
    taken_for = names[-max(others)[1]] if others else ""
    return ClassScore(names[index], sum(row), row[index], taken_for)


def _shade_class(row: int, column: int, share: float) -> str:
    return ("hit" if row == column else "miss") + str(shade(share)) if share else ""
