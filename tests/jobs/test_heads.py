"""A job's head on several layers."""

from torch import nn

from regraft.jobs.heads import fresh_parameters, needs_advice
from regraft.jobs.job import Job
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint


def test_what_was_not_restored_is_fresh(job_file):
    """By exact names."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 2))
    checkpoint = open_checkpoint(job_file.parent / "theirs.npz")
    plan = plan_reuse(checkpoint, model, reuse="[01]", layout="tensorflow")
    assert fresh_parameters(model, plan) == [r"3\.weight", r"3\.bias"]


def test_advice_is_asked_for_by_its_section_or_by_the_head(job_file):
    """An empty section is enough."""
    job_file.write_text(job_file.read_text().replace('[freeze]\nlayers = "[01]"\n', ""))
    assert not needs_advice(Job.from_file(job_file, ["head.layers=all"]))
    assert needs_advice(Job.from_file(job_file, ["head.layers=advised"]))
    job_file.write_text(job_file.read_text() + "\n[advise]\n")
    assert needs_advice(Job.from_file(job_file))
