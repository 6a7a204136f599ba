"""`regraft init`, as a user types it."""

import io
import sys

import pytest

from regraft.demo.shipped import copy_photos
from regraft.jobs.job import Job
from regraft.recipe import reuse
from typed import typed


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder of photographs in the working directory."""
    copy_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def answers(monkeypatch, *lines):
    """Type these lines."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_a_folder_of_images_is_enough(images):
    """The network that ships with regraft is copied beside the job, and the job runs."""
    done = typed("init", "photos", "--yes", "--size", "32")
    assert done.code == 0, done.errors
    assert "54 reused · 2 fresh · 0 problems" in done.output
    settings = ["train.steps.epochs=1", "data.per_class=2"]
    run = reuse(Job.from_file(images.parent / "job.toml", settings))
    assert run.metrics["test"]["count"] == 150
    assert (images.parent / "mobilenet_v1_025/LICENSE").is_file()


def test_five_questions_are_asked_and_a_wrong_answer_is_asked_for_again(images, monkeypatch):
    """Each question has its number and its default; a mistake costs no other answer."""
    answers(monkeypatch, "fotos", "photos", "", "", "Logit", "Logits", "64")
    done = typed("init", "--out", "mine.toml")
    assert done.code == 0, done.errors
    assert [f"{number}. " in done.errors for number in range(1, 6)] == [True] * 5
    assert "There is nothing at fotos" in done.errors
    assert "Did you mean 'Logits'" in done.errors
    assert Job.from_file(images.parent / "mine.toml").input.size == (64, 64)


def test_what_has_no_answer_and_no_default_is_named(images, monkeypatch):
    """At the end of the input, and with --yes; an existing job stays."""
    answers(monkeypatch)
    assert "init has no answer for data. Give it as DATA." in typed("init").errors
    assert "There is nothing at fotos" in typed("init", "fotos", "--yes").errors
    (images.parent / "job.toml").touch()
    assert "job.toml exists already; nothing was changed" in typed("init", "photos", "--yes").errors
