"""A job's model from the checkpoint itself."""

import shutil

import numpy as np
import pytest
from PIL import Image

from golden_files import GOLDEN
from regraft.errors import JobError
from regraft.jobs.job import Job
from regraft.jobs.planned import planned_model


@pytest.fixture
def job(tmp_path):
    """What makes a job of the golden Keras network (2 channels, so it cannot run on these images) and two classes."""
    shutil.copy(GOLDEN / "keras3_image.keras", tmp_path / "net.keras")
    for name in ("cat", "dog", "owl"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(tmp_path / "photos" / name / "0.png")

    def made(**more):
        sections = {
            "checkpoint": {"path": "net.keras"},
            "model": {"factory": "checkpoint"},
            "data": {"train": "photos"},
        }
        return Job.from_dict({**sections, **more}, folder=tmp_path)

    return made


def test_the_network_has_an_output_for_each_class_of_the_data(job):
    """Its last layer is new; all others are restored."""
    planned = planned_model(job())

    assert planned.model.logits.out_features == 3
    fresh = [row.target for row in planned.plan.rows if row.status == "kept_init" and "tracked" not in row.target]
    assert fresh == ["logits.weight", "logits.bias"]
    assert "replaced by a new one of 3" in planned.notes[0]


def test_the_head_of_the_file_can_be_kept_or_another_replaced(job):
    """As [model] head says."""
    kept = planned_model(job(model={"factory": "checkpoint", "head": False}))
    other = planned_model(job(model={"factory": "checkpoint", "head": {"layer": "hidden"}}))

    assert (kept.model.logits.out_features, other.model.hidden.out_features) == (3, 3)
    assert not hasattr(other.model, "logits")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"plan": {"fresh": ["logits"]}}, r"\[plan\] fresh has no effect"),
        ({"model": {"factory": "checkpoint", "args": {"classes": 3}}}, r"\[model\] args.classes has no effect"),
    ],
)
def test_keys_without_an_effect_are_refused(job, more, message):
    """With what to write."""
    with pytest.raises(JobError, match=message):
        planned_model(job(**more))
