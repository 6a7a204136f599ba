"""`regraft init`, as a user types it."""

import io
import sys

import numpy as np
import pytest

from onnx_networks import node, write_onnx
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
    assert (
        "init has no answer to: 1. Folder of images, with a subfolder for each class. Give it as DATA."
        in typed("init").errors
    )
    assert "There is nothing at fotos" in typed("init", "fotos", "--yes").errors
    (images.parent / "job.toml").touch()
    assert "job.toml exists already; nothing was changed" in typed("init", "photos", "--yes").errors


def test_a_file_that_describes_its_network_needs_no_model(images):
    """The last layer is new and trains; how values are scaled is asked for, since the file does not record it."""
    weights = {"conv.weight": (4, 3, 3, 3), "fc.weight": (7, 4), "fc.bias": (7,)}
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    nodes = [
        node("Conv", "x conv.weight", "c", kernel_shape=[3, 3]),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f fc.weight fc.bias", "y", transB=1),
    ]
    write_onnx(images.parent / "net.onnx", nodes, {"x": np.zeros((2, 3, 16, 20), np.float32)}, arrays)
    typed_before = ("init", "photos", "--checkpoint", "net.onnx", "--yes")

    assert "Values that the network takes: 0..1, symmetric" in typed(*typed_before).errors
    assert "'dark' is no range of values" in typed(*typed_before, "--values", "dark").errors
    done = typed(*typed_before, "--values", "symmetric")

    assert done.code == 0, done.errors
    assert "1 reused · 2 fresh · 0 problems" in done.output
    job = Job.from_file(images.parent / "job.toml", ["train.steps.epochs=1", "data.per_class=2"])
    assert (job.model.factory, job.freeze.trainable, job.input.size) == ("checkpoint", "fc", (16, 20))
    assert (job.input.mean, job.input.std) == ((0.5,), (0.5,))
    assert reuse(job).metrics["test"]["count"] == 150
