"""A job's layers: named ones exist, frozen ones are frozen."""

import pytest

from regraft.errors import PatternError, TrainError
from regraft.freezing import frozen_names
from regraft.jobs.factories import model_by_spec
from regraft.jobs.job import Job
from regraft.jobs.layers import freeze_layers, refuse_unknown_layers


@pytest.fixture
def model(job_file):
    """The job's model: layers 0 to 5."""
    return model_by_spec("net.py:net", folder=job_file.parent)


def test_every_layer_that_is_not_there_is_named_with_its_key(job_file, model):
    """Of [freeze] and of the schedule at once."""
    job = Job.from_file(job_file, ["freeze.layers=nine", 'train.schedule={0 = "5", 1 = "fc"}'])
    with pytest.raises(PatternError) as caught:
        refuse_unknown_layers(model, job)
    keys = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-1]]
    assert keys == ["[freeze] layers", "[train.steps] schedule, epoch 1"]


def test_without_a_freeze_section_the_schedule_decides(job_file, model):
    """What it never trains is frozen."""
    job_file.write_text(job_file.read_text().replace('[freeze]\nlayers = "[01]"\n', ""))
    freeze_layers(model, Job.from_file(job_file, ['train.schedule={0 = "5", 2 = "1"}']))
    assert frozen_names(model) == ["0"]


def test_a_job_that_trains_nothing_is_refused(job_file, model):
    """Before any features are computed."""
    with pytest.raises(TrainError, match=r"\[freeze\] leaves nothing to train"):
        freeze_layers(model, Job.from_file(job_file, ["freeze.layers=.*"]))
