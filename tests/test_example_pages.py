"""The examples give the same results as TensorFlow."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from regraft import open_checkpoint
from regraft.jobs.job import Job
from regraft.recipe import reuse
from shared import MNIST, SHARED, needs_shared

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = needs_shared


@pytest.fixture(scope="module")
def example_folders():
    """Make the modules of the examples importable, as when an example runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("book_chapter",):
            patch.syspath_prepend(str(EXAMPLES / name))
        yield
    for name in ("chapter", "network"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def chapter_runs(example_folders):
    """kind → (model, history): the three runs of the book, 20 epochs each."""
    import chapter

    data, _ = chapter.digits()
    return {kind: chapter.run(kind, data.inputs, data.labels) for kind in ("full", "frozen", "cached")}


@pytest.mark.parametrize(("kind", "tensorflow"), [("full", 0.9652), ("frozen", 0.9584), ("cached", 0.9584)])
def test_the_chapter_reaches_tensorflows_accuracy(chapter_runs, kind, tensorflow):
    """0.0006 is three of 5,000 examples: float32 sums in another order, over 5,500 steps."""
    _, history = chapter_runs[kind]
    assert abs(history.validation_accuracy[-1] - tensorflow) <= 0.0006


@pytest.mark.parametrize("kind", ["full", "frozen", "cached"])
def test_the_chapters_weights_stay_near_tensorflows(chapter_runs, kind):
    """Measured 8e-4; the bound allows for other orders of sums on other processors."""
    import chapter

    assert chapter.largest_difference(chapter_runs[kind][0], kind) < 1e-2


def test_the_frozen_layers_are_the_checkpoints_to_the_last_bit(chapter_runs):
    """After 20 epochs, in both runs with frozen layers."""
    checkpoint = open_checkpoint(MNIST / "tf1_v2_mnist10_sgd")
    for kind in ("frozen", "cached"):
        state = chapter_runs[kind][0].state_dict()
        for layer in ("hidden1", "hidden2"):
            assert np.array_equal(state[f"{layer}.weight"].numpy(), checkpoint.read(f"{layer}/kernel").T)
            assert np.array_equal(state[f"{layer}.bias"].numpy(), checkpoint.read(f"{layer}/bias"))


def test_the_cache_changes_no_bit_at_any_epoch(chapter_runs):
    """Losses of every epoch and all final weights."""
    (frozen, frozen_history), (cached, cached_history) = chapter_runs["frozen"], chapter_runs["cached"]
    assert frozen_history.train_loss == cached_history.train_loss
    assert frozen_history.validation_loss == cached_history.validation_loss
    state = cached.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in frozen.state_dict().items())


def test_the_vehicles_job_runs_from_a_clone(tmp_path):
    """With the checkpoint and the photographs of the repository alone; one epoch on small images."""
    settings = ["train.steps.epochs=1", "input.size=32", f"out.folder='{tmp_path / 'run'}'"]
    run = reuse(Job.from_file(EXAMPLES / "vehicles/job.toml", [*settings, f"cache.folder='{tmp_path / 'features'}'"]))
    assert run.metrics["test"]["count"] == 150


def test_the_vehicles_job_learns_from_twenty_labels_a_class(tmp_path):
    """The job file with other examples; 0.85 was measured over seeds, chance is 0.17; tested on the clone's 150."""
    settings = [f"data.train='{SHARED / 'data/vehicle_types/train'}'", "data.per_class=20"]
    settings += [f"out.folder='{tmp_path / 'run'}'", f"cache.folder='{tmp_path / 'features'}'"]
    run = reuse(Job.from_file(EXAMPLES / "vehicles/job.toml", settings))
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.75
    assert metrics["test"]["count"] == 150


def test_the_chapters_job_file_runs(tmp_path):
    """Two epochs."""
    run = reuse(
        Job.from_file(EXAMPLES / "book_chapter/job.toml", ["train.epochs=2", f"out.folder='{tmp_path / 'run'}'"])
    )
    assert run.metrics["validation"]["count"] == 5000
    assert run.metrics["test"]["accuracy"] > 0.9
    assert SHARED.is_dir()
