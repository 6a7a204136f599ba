"""The sections of a job as classes."""

from regraft.jobs.job import Job
from regraft.jobs.sections import DataSection, StepsTable, TrainSection, keys_of, section_of, section_values


def test_a_sections_values_are_the_arguments_of_its_step():
    """By key, defaults included."""
    assert section_values(DataSection("photos"))["validation"] == 0.2
    assert keys_of(DataSection)[:4] == ["train", "test", "validation", "labels"]


def test_sections_lie_in_the_job_and_in_sections():
    """A key is none, nor is a name that there is not."""
    assert section_of(Job, "train") is TrainSection
    assert section_of(TrainSection, "steps") is StepsTable
    assert section_of(TrainSection, "loss") is section_of(Job, "modl") is section_of(Job, "folder") is None
