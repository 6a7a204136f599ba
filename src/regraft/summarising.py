"""Gathers what the steps gave into the record that the report shows."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from regraft.arrays import Checkpoint
from regraft.cuts.cut import Cut
from regraft.evaluating import Score
from regraft.plan import Plan
from regraft.plans.rows import Row
from regraft.reports.record import (
    CheckpointRecord,
    CutRecord,
    HistoryRecord,
    LeafRecord,
    NoteRecord,
    ParametersRecord,
    PlanRecord,
    PlanRowRecord,
    RunRecord,
    ScoreRecord,
    StageRecord,
)
from regraft.saving import file_hashes, versions
from regraft.training import History, Stage


def record_of(
    *,
    title: str,
    command: str,
    checkpoint_path: str,
    checkpoint: Checkpoint,
    plan: Plan,
    model: nn.Module,
    frozen: Sequence[str],
    cut: Cut | None,
    cost: str,
    history: History,
    scores: Mapping[str, Score],
    classes: Sequence[str],
    seconds: Mapping[str, float],
    notes: Sequence[str],
) -> RunRecord:
    """All that the report shows about a run.

    checkpoint_path  as the user named it
    cut, cost        None and "" for a run without a cache
    scores           by part: "validation", "test"
    """
    return RunRecord(
        title=title,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        versions=versions(),
        machine=machine(),
        checkpoint=CheckpointRecord(checkpoint_path, checkpoint.format, plan.layout, file_hashes(plan)),
        plan=PlanRecord(plan.heading(), tuple(_row(row) for row in plan.rows)),
        frozen=tuple(frozen),
        parameters=parameters_of(model),
        cut=_cut(cut, cost) if cut else None,
        history=HistoryRecord(
            train_loss=history.train_loss,
            validation_loss=history.validation_loss,
            validation_accuracy=tuple(value for value in history.validation_accuracy if value is not None),
            best_epoch=history.best_epoch,
            stopped=history.stopped_because,
            stages=tuple(_stage(stage) for stage in history.stages),
        ),
        test=_score(scores.get("test")),
        validation=_score(scores.get("validation")),
        classes=tuple(classes),
        seconds=dict(seconds),
        notes=tuple(NoteRecord(note) for note in dict.fromkeys([*plan.notes, *history.notes, *notes])),
    )


def metrics_of(record: RunRecord) -> dict[str, Any]:
    """The record's numbers under stable names, for metrics.json."""
    metrics: dict[str, Any] = {}
    for part, score in (("test", record.test), ("validation", record.validation)):
        if score is not None:
            metrics[part] = {
                "accuracy": score.accuracy,
                "standard_error": score.standard_error,
                "count": score.count,
                "loss": score.loss,
            }
    metrics["seconds"] = record.seconds
    metrics["epochs"] = len(record.history.train_loss) if record.history else 0
    metrics["cut"] = None if record.cut is None else asdict(record.cut)
    metrics["frozen"] = list(record.frozen)
    metrics["parameters"] = None if record.parameters is None else asdict(record.parameters)
    metrics["history"] = None if record.history is None else asdict(record.history)
    metrics["notes"] = [note.text for note in record.notes]
    return metrics


def parameters_of(model: nn.Module) -> ParametersRecord:
    """How many values the model's parameters hold, and how many of them are trained."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return ParametersRecord(total=total, frozen=total - trained, trained=trained)


def machine() -> str:
    """The processor, its cores and the accelerator, in words."""
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{accelerator}"


def _row(row: Row) -> PlanRowRecord:
    shape = row.target_shape if row.target_shape is not None else (row.source_shapes or ((),))[0]
    return PlanRowRecord(row.target or "", row.sources, row.status, row.work(), tuple(shape), row.note)


def _stage(stage: Stage) -> StageRecord:
    told = asdict(stage)
    return StageRecord(first_epoch=told.pop("epoch"), **told)


def _cut(cut: Cut, cost: str) -> CutRecord:
    leaves = tuple(
        LeafRecord(
            leaf.name,
            tuple(size or 0 for size in leaf.shape),
            str(leaf.dtype).removeprefix("torch."),
            leaf.bytes_per_example,
        )
        for leaf in cut.leaves
    )
    return CutRecord(leaves, cut.bytes_per_example, cut.work_saved, cost)


def _score(score: Score | None) -> ScoreRecord | None:
    if score is None or score.accuracy is None:
        return None
    return ScoreRecord(score.accuracy, score.standard_error or 0.0, score.count, score.loss, score.confusion or ())
