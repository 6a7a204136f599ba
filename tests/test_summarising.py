"""A run in one record."""

import torch
from torch import nn

from regraft.evaluating import Score
from regraft.reports.record import StageRecord
from regraft.summarising import machine, metrics_of, parameters_of, record_of
from regraft.training import History, Stage


def record(scores, in_memory_plan):
    """A run of a frozen and a trained layer, without a cache."""
    checkpoint, plan, model = in_memory_plan
    return record_of(
        title="a job",
        command="regraft reuse job.toml",
        checkpoint_path="theirs.npz",
        checkpoint=checkpoint,
        plan=plan,
        model=model,
        frozen=["0"],
        cut=None,
        cost="",
        history=History(
            train_loss=(1.0, 0.5),
            validation_accuracy=(None, None),
            stopped_because="all 2 epochs were run",
            stages=(Stage(0, ("0",), 9, note="why"),),
        ),
        scores=scores,
        classes=["a", "b"],
        seconds={"training": 1.5},
        notes=["train: 3 unreadable images skipped"],
    )


def planned():
    """A checkpoint in memory, a plan for it, and the model with its first layer frozen."""
    from in_memory import arrays_of, checkpoint_of
    from regraft.matching import plan_reuse

    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    checkpoint = checkpoint_of(arrays_of(model), layout="torch")
    model[0].requires_grad_(False)
    return checkpoint, plan_reuse(checkpoint, model), model


def test_the_record_holds_what_the_steps_gave():
    """Plan rows in words, parameters, notes, scores."""
    made = record({"test": Score(0.75, 0.1, 20, 0.6, ((8, 2), (3, 7)))}, planned())
    assert made.plan.summary.startswith("4 reused")
    assert (made.parameters.total, made.parameters.frozen, made.parameters.trained) == (17, 9, 8)
    assert (made.test.accuracy, made.test.confusion, made.validation) == (0.75, ((8, 2), (3, 7)), None)
    assert made.notes[-1].text == "train: 3 unreadable images skipped"
    assert made.history.validation_accuracy == ()
    assert made.history.stages == (StageRecord(0, ("0",), 9, note="why"),)


def test_metrics_have_stable_names():
    """Scripts read them."""
    metrics = metrics_of(record({"test": Score(0.75, 0.1, 20, 0.6)}, planned()))
    assert metrics["test"] == {"accuracy": 0.75, "standard_error": 0.1, "count": 20, "loss": 0.6}
    assert (metrics["epochs"], metrics["cut"], metrics["frozen"]) == (2, None, ["0"])
    assert metrics["parameters"] == {"total": 17, "frozen": 9, "trained": 8}
    assert metrics["seconds"] == {"training": 1.5}


def test_a_score_without_accuracy_is_no_score_of_classes():
    """Regression has a loss only."""
    assert record({"test": Score(None, None, 20, 0.6)}, planned()).test is None


def test_parameters_are_counted_by_values_and_the_machine_is_named():
    """Not by tensors."""
    assert parameters_of(nn.Linear(10, 10)).total == 110
    assert "cores" in machine()
    assert torch.get_num_threads() >= 1
