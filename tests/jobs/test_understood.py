"""What a job says of its data, and a model that does not fit them."""

import shutil

import pytest
import torch
from torch import nn

from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.jobs.job import Job
from regraft.jobs.parts import open_parts
from regraft.jobs.understood import refuse_misfit, shared_notes, understood
from regraft.learning.request import Request

ROWS = (torch.tensor([[-1.0, 0.5, 2.0], [0.0, 0.0, 0.0]]),)
LABELS = torch.tensor([0, 1])
REQUEST = Request("classification")
AB = ArrayExamples(ROWS[0], LABELS, Target("classification", ("a", "b")))


def test_classes_counts_and_a_sample_are_said(job_file):
    """For each part; what the model sees after its preparation."""
    parts = open_parts(Job.from_file(job_file))
    assert understood(parts, ROWS).splitlines() == [
        "task       classification",
        "train      12 examples of 2 classes: dark 6, light 6",
        "validation 4 examples of 2 classes: dark 2, light 2",
        "test       16 examples of 2 classes: dark 8, light 8",
        "inputs     3, values from -1 to 2, mean 0.25 (first 2 training examples)",
    ]


def test_many_classes_fill_no_screen():
    """The first twenty show the form."""
    data = ArrayExamples(
        torch.zeros(300, 3), torch.arange(300), Target("classification", tuple(f"c{index}" for index in range(300)))
    )
    line = understood({"train": data}, ROWS).splitlines()[1]
    assert line.startswith("train      300 examples of 300 classes: c0 1, c1 1")
    assert line.endswith("c19 1, … (280 more)")


def test_examples_that_training_and_test_share_are_counted(job_file):
    """Their score is no score."""
    folder = job_file.parent
    for name in ("dark/00.png", "light/11.png"):
        shutil.copy(folder / "train" / name, folder / "test" / name)
    (note,) = shared_notes(open_parts(Job.from_file(job_file, ["data.validation=0"])))
    assert note.startswith("test: 2 examples are byte for byte among the training examples, and count in its score: ")
    assert note.endswith("dark/00.png, light/11.png")


class Named(nn.Module):
    """Outputs as transformers gives them."""

    def __init__(self, outputs):
        super().__init__()
        self.head = nn.Linear(3, outputs)

    def forward(self, rows):
        return {"logits": self.head(rows)}


class Failing(nn.Module):
    """A forward that always fails."""

    def forward(self, rows):
        raise KeyError("pixel_values")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(3, 5), r"has 5 outputs, and the training data have 2 classes: a, b\.\n.*args = \{num_classes = 2\}"),
        (nn.Linear(3, 1), "has 1 output, and the training data have 2 classes"),
        (Named(3), "has 3 outputs"),
        (nn.Linear(4, 2), r"fails on the first training examples, of shape \(3\): RuntimeError"),
        (Failing(), "fails on the first training examples.*KeyError"),
        (nn.Unflatten(1, (3, 1)), r"gives outputs of shape \(3 × 1\) for an example"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(model, words):
    """Before anything is computed."""
    with pytest.raises(DataError, match=words):
        refuse_misfit(model, ROWS, LABELS, AB, REQUEST)


def test_looking_changes_nothing_in_the_model():
    """Neither modes nor statistics nor random numbers."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)).train()
    before, drawn = model[0].running_mean.clone(), torch.get_rng_state()
    refuse_misfit(model, ROWS, LABELS, AB, REQUEST)
    assert model.training
    assert torch.equal(model[0].running_mean, before)
    assert model[0].num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), drawn)
