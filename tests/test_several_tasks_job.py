"""A job with a class and a number for each row: trained, saved, asked and scored again."""

import csv
import json

import pytest
import torch
from safetensors.torch import save_file

from regraft.errors import DataError, JobError
from regraft.jobs.job import Job
from regraft.predicting import Answer
from regraft.recipe import predict, reuse
from regraft.saving import foreign_entries
from regraft.scoring_runs import score_run

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, kinds=3, ages=1):
        super().__init__()
        self.body, self.kind, self.age = nn.Linear(2, 16), nn.Linear(16, kinds), nn.Linear(16, ages)

    def forward(self, x):
        x = self.body(x).tanh()
        return {"kind": self.kind(x), "age": self.age(x)}
"""
ROWS = [(a, b, ["ant", "bee", "cat"][(a > 3) + (b > 3)], 2.0 * a + b) for a in range(8) for b in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, a checkpoint and a network."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "net.py").write_text(NET)
    torch.manual_seed(0)
    save_file({"body.weight": torch.randn(16, 2), "body.bias": torch.randn(16)}, folder / "net.safetensors")
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b", "kind", "age"), *ROWS])
    return folder


def job(folder, *, task=None, factory=None, train="rows.csv", out="run"):
    """The job of plain data."""
    data = {
        "checkpoint": {"path": "net.safetensors"},
        "model": {"factory": "net.py:Net", "args": factory or {}},
        "plan": {"fresh": ["kind", "age"]},
        "freeze": {"layers": "body"},
        "data": {"train": train, "labels": ["kind", "age"]},
        "numbers": {"columns": ["a", "b"], "standardize": True},
        "train": {"steps": {"epochs": 100, "lr": 0.1}, "log": ["tensorboard"], **({"task": task} if task else {})},
        "out": {"folder": out},
    }
    return Job.from_dict(data, folder=folder)


@pytest.fixture(scope="module")
def run(folder):
    """Trained once; its lines are kept."""
    lines = []
    done = reuse(job(folder, task={"kind": "classification", "age": "regression"}), tell=lines.append)
    return done, "\n".join(lines)


def test_each_column_has_its_task_and_its_metrics(run):
    done, told = run
    assert "task       kind classification, age regression" in told
    assert "kind: ant " in told
    assert "; age: from " in told
    metrics = done.record.scores["validation"].metrics
    assert sorted(metrics) == ["age.mean_absolute_error", "age.r2", "kind.accuracy"]
    assert metrics["kind.accuracy"] > done.record.result.baseline["kind.accuracy"]
    assert metrics["age.mean_absolute_error"] < done.record.result.baseline["age.mean_absolute_error"]


def test_the_report_and_the_answers_show_both(run):
    done, _ = run
    page = (done.folder / "report.html").read_text()
    assert "kind: Accuracy" in page
    assert "age: MAE" in page
    assert "validation, 13 examples" in page
    assert "(13 examples)" in done.summary()
    rows = list(csv.DictReader((done.folder / "answers.csv").read_text().splitlines()))
    assert list(rows[0]) == ["name", "true kind", "predicted kind", "true age", "predicted age"]
    right = sum(row["true kind"] == row["predicted kind"] for row in rows) / len(rows)
    assert right == pytest.approx(done.record.scores["validation"].metrics["kind.accuracy"])


def test_the_curves_for_tensorboard_are_in_the_run(run):
    """And are its own: such a run may be replaced."""
    done, _ = run
    assert [path.name for path in (done.folder / "tensorboard").iterdir()]
    assert not foreign_entries(done.folder)
    assert not done.folder.with_name("run.unfinished").exists()


def test_predict_answers_both_and_evaluate_scores_both(run, folder):
    done, _ = run
    (folder / "new.csv").write_text("a,b\n0,0\n7,7\n")
    first, last = predict(done.folder, [folder / "new.csv"])
    assert isinstance(first, Answer)
    assert (first.parts["kind"].label, last.parts["kind"].label) == ("ant", "cat")
    assert last.parts["age"].values["age"] == pytest.approx(21, abs=4)
    assert list(last.rows()[0]) == ["kind", "kind probability", "age"]
    assert last.text().startswith("kind cat  ")
    assert json.dumps(last.to_dict())
    score = score_run(done.folder, folder / "rows.csv")
    assert sorted(score.score.metrics) == ["age.mean_absolute_error", "age.r2", "kind.accuracy"]


def test_whole_numbers_beside_names_are_asked_for(folder):
    """They may be classes; what is known is written down already."""
    with (folder / "whole.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("a", "b", "kind", "age"), *((a, b, kind, int(10 * age)) for a, b, kind, age in ROWS)]
        )
    with pytest.raises(DataError) as refused:
        reuse(job(folder, train="whole.csv", out="other"))
    assert 'Set [train] task = {kind = "classification", age = "…"} to say what each column is.' in str(refused.value)


def test_what_does_not_fit_is_refused(folder):
    """Another number of outputs, and a task of a column that is no label."""
    with pytest.raises(DataError, match="The model has 4 outputs, and the training data have 3 classes"):
        reuse(job(folder, task={"kind": "classification", "age": "regression"}, factory={"kinds": 4}, out="other"))
    with pytest.raises(DataError) as refused:
        reuse(job(folder, task={"kind": "classification", "age": "classification"}, out="other"))
    assert 'Set [train] task = {kind = "classification", age = "regression"}' in str(refused.value)
    with pytest.raises(JobError, match=r"\[train\] task names size, and \[data\] labels are kind, age"):
        _ = job(folder, task={"size": "regression"}).target
