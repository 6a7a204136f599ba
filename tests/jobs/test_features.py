"""The features of a job's data."""

import pytest
import torch
from torch import nn

import regraft
from regraft.caches.options import Share
from regraft.caches.ray_workers import Ray
from regraft.datasets.labelled import Labelled
from regraft.errors import JobError
from regraft.jobs.features import augmented, features_of, workers_of
from regraft.jobs.job import Job

BASE = {"checkpoint": {"path": "x.npz"}, "model": {"factory": "net:make"}, "data": {"train": "train"}}


class Rows(Labelled):
    """Small images in memory with two classes."""

    classes = ("a", "b")

    def __init__(self, count):
        self.images, self.labels = torch.randn(count, 1, 4, 4), torch.arange(count) % 2
        self.ids = tuple(map(str, range(count)))

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def split_model():
    """A frozen layer and a head."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Linear(8, 2))
    regraft.freeze(model, "1")
    return regraft.split(model, torch.randn(2, 1, 4, 4))


def job_with(**cache):
    """A job that is not run."""
    return Job.from_dict({**BASE, "cache": cache})


def test_each_part_has_its_features_and_training_has_its_views():
    trunk, head = split_model()
    data, lines = {"train": Rows(6), "test": Rows(4)}, []
    features = features_of(trunk, head, data, job_with(use=True, views=2), lines.append)
    assert {part: len(of_part) for part, of_part in features.items()} == {"train": 6, "test": 4}
    assert features["train"].built.computed == 12
    assert features["test"].built.computed == 4
    assert any("in 2 views" in line for line in lines)


def test_a_cache_that_does_not_pay_is_left_out():
    """With one epoch no cache can; the job says so and trains the whole model."""
    trunk, head = split_model()
    lines = []
    job = Job.from_dict({**BASE, "train": {"epochs": 1}})
    assert features_of(trunk, head, {"train": Rows(6)}, job, lines.append) == {}
    assert "cache.use = true builds it all the same" in lines[-1]


def test_only_views_are_augmented():
    rows = Rows(4)
    assert augmented(rows, job_with()) is rows
    assert augmented(rows, job_with(views=3)) is not rows


@pytest.mark.parametrize(
    ("section", "address", "workers"),
    [
        ({}, None, None),
        ({"engine": "auto"}, None, None),
        ({"engine": "auto", "workers": 3}, "127.0.0.1:6379", Ray(workers=3)),
        ({"engine": "ray", "cpus": 2, "address": "ray://head:10001"}, None, Ray(cpus=2, address="ray://head:10001")),
    ],
)
def test_workers_are_those_of_the_section(monkeypatch, section, address, workers):
    """ "auto" takes Ray where the environment names a cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert workers_of(Job.from_dict({**BASE, "cluster": section}).cluster) == workers


@pytest.mark.parametrize("shared", [{"share": Share(0, 2)}, {"cluster": {"engine": "ray"}}])
def test_several_processes_need_a_folder_of_features(shared):
    trunk, head = split_model()
    job = Job.from_dict({**BASE, "cluster": shared.get("cluster", {})})
    with pytest.raises(JobError, match=r"\[cache\] names no folder"):
        features_of(trunk, head, {"train": Rows(6)}, job, print, shared.get("share", Share()))
