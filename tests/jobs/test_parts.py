"""A job's training, validation and test examples."""

import pytest

from regraft.errors import DataError
from regraft.jobs.job import Job
from regraft.jobs.parts import cached_besides, open_parts, refuse_missing_data


def test_validation_takes_the_first_examples_a_part_or_a_folder(job_file):
    """As the job says."""
    counts = [
        {part: len(data) for part, data in open_parts(Job.from_file(job_file, [setting])).items()}
        for setting in ("data.validation=3", "data.validation=0.5", "data.validation='test'", "data.validation=0")
    ]
    assert counts == [
        {"train": 13, "validation": 3, "test": 16},
        {"train": 8, "validation": 8, "test": 16},
        {"train": 16, "validation": 16, "test": 16},
        {"train": 16, "test": 16},
    ]


def test_few_labels_can_be_asked_for(job_file):
    """The same number of each class."""
    parts = open_parts(Job.from_file(job_file, ["data.per_class=2"]))
    assert parts["train"].labels.bincount().tolist() == [2, 2]


def test_more_first_examples_than_there_are_are_refused(job_file):
    """With the counts."""
    with pytest.raises(DataError, match="first 16 examples, but the training data have only 16"):
        open_parts(Job.from_file(job_file, ["data.validation=16"]))


def test_every_path_without_data_is_named(job_file):
    """A share is no path."""
    job = Job.from_file(job_file, ["data.train=photos", "data.validation=0.2", "data.test=none.npz"])
    with pytest.raises(DataError) as caught:
        refuse_missing_data(job)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "These data do not exist",
        '  [data] train = "photos"',
        '  [data] test = "none.npz"',
    ]


def test_the_cost_counts_the_training_data_alone_and_says_so(job_file):
    """The other parts are cached too."""
    parts = open_parts(Job.from_file(job_file))
    assert cached_besides(parts).endswith("4 examples for validation and 16 examples for test are cached as well.")
    assert cached_besides({"train": parts["train"]}) == ""
