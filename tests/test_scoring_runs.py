"""A saved run, scored on other labelled data."""

import json

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch import nn

import regraft
from regraft.contracts.numbers import NumberContract
from regraft.contracts.preparation import Preparation
from regraft.errors import DataError, SaveError
from regraft.recipe import predict, reuse
from regraft.saving import Factory
from regraft.scoring_runs import score_run
from typed import typed

LINEAR = Factory("torch.nn:Linear", {"in_features": 1, "out_features": 2})


@pytest.fixture
def saved(tmp_path):
    """A model that says "high" above 0, and numbers on both sides."""
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.bias.zero_()
    prepared = Preparation(numbers=NumberContract(("a",)))
    regraft.save(model, tmp_path / "run", inputs=prepared, classes=["high", "low"], factory=LINEAR, outputs="classes")
    rows = [f"{a},{'high' if a > 3 else 'low'}" for a in range(-9, 10) if a]
    (tmp_path / "new.csv").write_text("\n".join(["a,label", *rows]))
    return tmp_path


def test_a_run_is_scored_as_scikit_learn_scores_it(saved):
    """With the names of the classes, in the order of the training."""
    found = score_run(saved / "run", saved / "new.csv").to_dict()
    true = [1 if a <= 3 else 0 for a in range(-9, 10) if a]
    predicted = [0 if a > 0 else 1 for a in range(-9, 10) if a]
    columns = precision_recall_fscore_support(true, predicted)
    assert found["accuracy"] == pytest.approx(15 / 18)
    assert [row["class"] for row in found["per_class"]] == found["classes"] == ["high", "low"]
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[name] for row in found["per_class"]] == pytest.approx(list(column))
    assert found["confusion"] == [[6, 0], [3, 9]]


def test_the_score_of_a_job_is_found_again(job_file):
    """The same data, the same number; the command prints it and writes it as JSON."""
    run = reuse(job_file)
    test = job_file.parent / "test"
    found = score_run(run.folder, test)
    assert found.score.accuracy == run.record.scores["test"].accuracy
    right = [answer.label == answer.name.split("/")[-2] for answer in predict(run.folder, [test])]
    assert sum(right) / len(right) == found.score.accuracy
    done = typed("evaluate", run.folder, test, "--json", "--metric", "f1")
    assert (done.code, done.errors) == (0, "")
    written = json.loads(done.output)
    assert (written["accuracy"], written["classes"]) == (found.score.accuracy, ["dark", "light"])
    assert set(written["metrics"]) == {"f1"}
    assert "support" in typed("evaluate", run.folder, test).output


def test_labels_that_training_did_not_know_are_refused(saved):
    """They have no output."""
    (saved / "new.csv").write_text("a,label\n1,middle\n")
    with pytest.raises(DataError, match="middle is not a class of the training data"):
        score_run(saved / "run", saved / "new.csv")


def test_a_model_of_which_nothing_is_known_is_not_scored(tmp_path):
    """Its outputs could be anything."""
    regraft.save(nn.Linear(1, 2), tmp_path / "run", factory=LINEAR)
    (tmp_path / "new.csv").write_text("a,label\n1,x\n")
    with pytest.raises(SaveError, match="does not record what the outputs of its model mean"):
        score_run(tmp_path / "run", tmp_path / "new.csv")


def test_another_column_can_be_named(saved):
    """A table of another year."""
    (saved / "new.csv").write_text("a,truth\n1,high\n-1,low\n")
    assert score_run(saved / "run", saved / "new.csv", labels=["truth"]).score.accuracy == 1
