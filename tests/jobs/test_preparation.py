"""How images are prepared is asked for where it is recorded."""

import json

import pytest
from torch import nn

from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.labelled import Target
from regraft.errors import JobError
from regraft.inputs import InputContract
from regraft.jobs.job import Job
from regraft.jobs.parts import open_parts
from regraft.jobs.preparation import recorded_preparation, refuse_unasked_preparation

TIMM = {
    "input_size": (3, 176, 160),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.2, 0.2),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
}
RECORDED = InputContract((176, 160), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "crop", 0.9, 3, "bicubic")


@pytest.fixture
def without_input(job_file):
    """A job whose images nobody prepares."""
    job_file.write_text(job_file.read_text().replace("[input]\nsize = 8\n", ""))
    return job_file


def timm_model(config=TIMM):
    """A model with timm's own record."""
    model = nn.Linear(2, 2)
    model.pretrained_cfg = config
    return model


def data_of(job):
    """The job's training images."""
    return open_parts(job)["train"]


def test_a_recorded_preparation_is_asked_for_with_the_section_to_add(without_input):
    """Never raw pixels by default; the section that is printed gives what is recorded."""
    job = Job.from_file(without_input)
    with pytest.raises(JobError, match=r"no \[input\] section, and timm records") as caught:
        refuse_unasked_preparation(job, timm_model(), data_of(job))
    section = str(caught.value).partition("[input]\n")[2].partition("\nTo give")[0]
    without_input.write_text(without_input.read_text() + f"[input]\n{section}\n")
    job = Job.from_file(without_input)
    assert job.input == RECORDED
    assert refuse_unasked_preparation(job, timm_model(), data_of(job)) == []


def test_raw_pixels_can_be_asked_for(without_input):
    """By an empty section."""
    without_input.write_text(without_input.read_text() + "[input]\n")
    job = Job.from_file(without_input)
    notes = refuse_unasked_preparation(job, timm_model(), data_of(job))
    assert notes == [
        "[input] mean is [0.0], and timm records [0.5, 0.4, 0.3]",
        "[input] std is [1.0], and timm records [0.2, 0.2, 0.2]",
    ]


def test_where_nobody_records_it_a_note_says_what_images_are(without_input):
    """Arrays of numbers need no preparation, and no note."""
    import torch

    job = Job.from_file(without_input)
    (note,) = refuse_unasked_preparation(job, nn.Linear(2, 2), data_of(job))
    assert note.startswith("the job has no [input] section")
    rows = ArrayExamples(torch.zeros(2, 2), torch.tensor([0, 1]), Target("classification", ("a", "b")))
    assert refuse_unasked_preparation(job, timm_model(), rows) == []


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("config.json", {"pretrained_cfg": TIMM}, RECORDED),
        ("config.json", {"pretrained_cfg": {**TIMM, "input_size": 3}}, None),
        ("config.json", {"pretrained_cfg": {**TIMM, "crop_mode": "new"}}, None),
        ("config.json", [], None),
        (
            "preprocessor_config.json",
            {"image_mean": [0.5] * 3, "image_std": [0.1] * 3, "size": {"height": 8, "width": 9}, "resample": 3},
            InputContract((8, 9), (0.5,) * 3, (0.1,) * 3, "squash", interpolation="bicubic"),
        ),
        (
            "preprocessor_config.json",
            {"image_mean": [0.5] * 3, "image_std": [0.1] * 3, "size": {"shortest_edge": 256}, "do_center_crop": True,
             "crop_size": {"height": 224, "width": 224}},
            InputContract((224, 224), (0.5,) * 3, (0.1,) * 3, "crop", 224 / 256),
        ),
    ],
)  # fmt: skip
def test_files_beside_the_checkpoint_are_read(without_input, name, config, expected):
    """timm's and transformers' own; a form that is not known is no record."""
    (without_input.parent / name).write_text(json.dumps(config))
    source, contract = recorded_preparation(Job.from_file(without_input), nn.Linear(2, 2))
    assert contract == expected
    assert source.endswith(name if expected else "")


def test_torchvision_and_timm_record_theirs(without_input):
    """No weights are downloaded."""
    from regraft.jobs.factories import model_by_spec

    job = Job.from_file(without_input, ["model.factory='torchvision:resnet18'"])
    source, contract = recorded_preparation(job, nn.Linear(2, 2))
    assert source == "torchvision"
    assert contract == InputContract(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "crop", 224 / 256)
    source, contract = recorded_preparation(job, model_by_spec("timm:resnet18"))
    assert (source, contract.mean, contract.size) == ("timm", (0.485, 0.456, 0.406), (224, 224))
