"""A run in one record."""

import json
from dataclasses import replace

import torch
from torch import nn

from regraft.cuts.cut import Cut, Leaf
from regraft.evaluating import Score
from regraft.learning.history import History, Stage
from regraft.reports.outcomes import Outcomes
from regraft.reports.record import Baseline, RunRecord, machine_text, parameters_of

RECORD = RunRecord(
    title="a job",
    frozen=("0",),
    parameters=parameters_of(nn.Linear(2, 3)),
    cut=Cut((Leaf("mean", (2, 3), torch.bfloat16, 12),), 0.5),
    cost="It pays.",
    history=History(
        train_loss=(1.0, 0.5),
        validation_accuracy=(None, None),
        stopped_because="all 2 epochs were run",
        stages=(Stage(0, ("0",), 9, note="why"),),
    ),
    scores={"validation": Score(0.5, 0.2, 10, 0.7), "test": Score(0.75, 0.1, 20, 0.6, ((8, 2), (3, 7)))},
    classes=("a", "b"),
    seconds={"training": 1.5},
    notes=("train: 3 unreadable images skipped",),
    counts={"train": (6, 4)},
)


def test_metrics_have_stable_names():
    """Scripts read them, as JSON."""
    assert json.loads(json.dumps(RECORD.metrics())) == {
        "test": {"accuracy": 0.75, "standard_error": 0.1, "count": 20, "loss": 0.6, "metrics": {}},
        "validation": {"accuracy": 0.5, "standard_error": 0.2, "count": 10, "loss": 0.7, "metrics": {}},
        "seconds": {"training": 1.5},
        "epochs": 2,
        "cut": {
            "leaves": [{"name": "mean", "shape": [2, 3], "dtype": "bfloat16", "bytes_per_example": 12}],
            "bytes_per_example": 12,
            "row_rounding": 0.0,
            "work_saved": 0.5,
            "cost": "It pays.",
        },
        "frozen": ["0"],
        "parameters": {"total": 9, "frozen": 0, "trained": 9},
        "history": {
            "train_loss": [1.0, 0.5],
            "validation_loss": [],
            "validation_accuracy": [],
            "best_epoch": None,
            "stopped": "all 2 epochs were run",
            "stages": [
                {
                    "first_epoch": 0,
                    "layers": ["0"],
                    "parameters": 9,
                    "leaves": [],
                    "bytes_per_example": 0,
                    "bytes": 0,
                    "seconds": 0.0,
                    "note": "why",
                }
            ],
        },
        "notes": ["train: 3 unreadable images skipped"],
        "classes": ["a", "b"],
        "counts": {"train": [6, 4]},
        "per_class": [
            {"class": "a", "precision": 8 / 11, "recall": 0.8, "f1": 16 / 21, "support": 10},
            {"class": "b", "precision": 7 / 9, "recall": 0.7, "f1": 14 / 19, "support": 10},
        ],
        "confusion": [[8, 2], [3, 7]],
        "baseline": {"name": "a", "majority": 0.5, "chance": 0.5},
        "calibration": None,
        "result": None,
        "studies": [],
        "advice": None,
    }


def test_a_run_without_a_part_has_null_for_it():
    """The keys stay."""
    metrics = RunRecord("a job").metrics()
    assert (metrics["epochs"], metrics["cut"], metrics["parameters"], metrics["history"]) == (0, None, None, None)


def test_the_main_score_is_that_of_the_test_data_and_a_score_without_accuracy_is_none():
    """Regression has a loss only."""
    assert list(RECORD.accuracies) == ["test", "validation"]
    assert not replace(RECORD, scores={"test": Score(None, None, 20, 0.6)}).accuracies


def test_parameters_are_counted_by_values_and_the_machine_is_named():
    """Not by tensors."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    counted = parameters_of(model)
    assert (counted.total, counted.trained, counted.frozen) == (17, 8, 9)
    assert "cores" in machine_text()


def test_the_baseline_is_the_most_frequent_class_of_the_training_examples():
    """Counted on the main part; without classes there is none. The training score is never the baseline's."""
    test = Score(0.5, 0.1, 10, 0.6, ((1, 2), (3, 4)))
    record = replace(RECORD, scores={"test": test}, counts={"train": (9, 1)})
    assert record.baseline == Baseline("a", 0.3, 0.5)
    assert replace(record, classes=(), counts={}).baseline == Baseline("1", 0.7, 0.5)
    assert RunRecord("a job").baseline is None
    assert replace(record, scores={"train": test}).baseline is None


def test_answers_have_a_calibration():
    """Of the main part."""
    record = replace(RECORD, outcomes=Outcomes("test", ("x", "y"), (0, 1), (0, 0), (0.9, 0.6)))
    assert record.metrics()["calibration"]["expected_error"] == 0.35
    assert RECORD.calibration is None
