"""Cross-validation and learning curves of a job."""

import json

import pytest
import torch
from torch import nn

from regraft.errors import TrainError
from regraft.evaluating import evaluate
from regraft.jobs.job import Job
from regraft.jobs.sections import StudySection
from regraft.jobs.studies import refuse_impossible_studies, studies_of
from regraft.learning.request import Request
from regraft.learning.solvers import Steps
from regraft.protocols import cross_validate
from regraft.recipe import reuse

INPUTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] > 0).long()
EXAMPLES = {"train": (INPUTS[:30], LABELS[:30]), "test": (INPUTS[30:], LABELS[30:])}
STEPS = [Steps(epochs=3, lr=0.1)]


def test_a_study_gives_what_the_protocol_gives():
    """And leaves the model as it was."""
    model = nn.Linear(3, 2)
    before = evaluate(model, EXAMPLES["test"], task="classification")
    section, request = StudySection(folds=3, counts=[10, 30], seeds=2), Request("classification")
    folds, curve = studies_of(section, model, EXAMPLES, request, STEPS, None)
    assert evaluate(model, EXAMPLES["test"], task="classification") == before
    again = cross_validate(model, EXAMPLES["train"], folds=3, seeds=range(2), task="classification", solver=STEPS[0])
    assert folds.rows["all folds"]["accuracy"] == again.spread("accuracy")
    assert list(curve.rows) == ["10 labels", "30 labels"]
    assert len(curve.rows["10 labels"]["loss"].values) == 2
    assert json.dumps(folds.to_dict())


def test_a_job_writes_its_studies_into_report_and_metrics(job_file):
    """Beside the training, whose weights they do not change."""
    plain = reuse(Job.from_file(job_file, ["out.folder=plain"])).model.state_dict()
    run = reuse(Job.from_file(job_file, ["study.folds=3", "study.counts=[4, 8]"]))
    assert all(torch.equal(plain[name], value) for name, value in run.model.state_dict().items())
    assert [study["title"][:6] for study in run.metrics["studies"]] == ["3-fold", "Learni"]
    assert "3-fold cross-validation of 12 examples" in (run.folder / "report.html").read_text()


def test_what_needs_validation_is_refused_before_anything_is_computed():
    """A fold has none."""
    with pytest.raises(TrainError, match=r"\[study\] trains without validation examples: patience waits"):
        refuse_impossible_studies(StudySection(folds=3), [Steps(patience=2)])
    refuse_impossible_studies(StudySection(), [Steps(patience=2)])
    with pytest.raises(TrainError, match="scored on test or validation"):
        studies_of(StudySection(counts=[5]), nn.Linear(3, 2), {"train": EXAMPLES["train"]}, Request("classification"),
                   STEPS, None)  # fmt: skip
