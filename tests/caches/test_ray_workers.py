"""Workers on Ray fill one store: Ray is started once, on this machine's loopback address."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from regraft.caches.options import Engine
from regraft.caches.ray_workers import Ray
from regraft.caching import cache_features
from regraft.errors import CacheError, DataError
from regraft.stores.folder import FolderStore
from trunks import tiny_data, tiny_trunk

WORKERS = Ray(workers=2)


@pytest.fixture(scope="module")
def ray():
    """Ray, started here for all tests of this file."""
    import ray as library

    with WORKERS.connected():
        yield library
    assert not library.is_initialized()


class Named(Dataset):
    """Examples that have names; `at_7` is what happens when the one at 7 is read."""

    def __init__(self, at_7=lambda: None):
        (self.inputs, self.targets), self.at_7 = tiny_data(200), at_7

    def __len__(self):
        return 200

    def __getitem__(self, index):
        if index == 7:
            self.at_7()
        return self.inputs[index], self.targets[index]


def shards(folder):
    """Name → content of the files of features."""
    return {path.name: path.read_bytes() for path in Path(folder).rglob("*.safetensors")}


def build(folder, engine, data=None):
    return cache_features(tiny_trunk(), data or Named(), folder, batch_size=8, data_id="numbers", engine=engine)


def test_workers_fill_the_store_as_one_process_does_though_one_is_killed(ray, tmp_path):
    """By signal 9, in the middle of a part: Ray starts it again. The process that asked computes nothing.

    Ray listens on the loopback address alone.
    """
    killed = tmp_path / "killed"

    def kill_once():
        if not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    build(tmp_path / "alone", "exact")
    features = build(tmp_path / "store", WORKERS, Named(kill_once))
    assert killed.exists()
    assert features.computed == 0
    assert shards(tmp_path / "store") == shards(tmp_path / "alone")
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_what_a_worker_raises_is_raised_here(ray):
    """With its type and its text."""

    def refuse(share):
        raise DataError(f"Example 7 cannot be read by {share.number} of {share.count}.")

    with pytest.raises(DataError, match="Example 7 cannot be read by 0 of 1"):
        Ray(workers=1).run(refuse)


def test_workers_that_all_die_are_an_error(ray, tmp_path):
    """Each time they are started."""
    with pytest.raises(CacheError, match=r"All 1 worker on Ray died: .*\nWhat they had committed stays"):
        Ray(workers=1, restarts=0).run(lambda share: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of Ray by its own code
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_a_data_set_of_ray_data_is_taken_as_a_stream(ray, tmp_path):
    """Rows with named columns, read once."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    inputs, targets = tiny_data(24)
    rows = [{"x": row.numpy(), "label": int(target)} for row, target in zip(inputs, targets, strict=True)]
    features = cache_features(tiny_trunk(), ray.data.from_items(rows), tmp_path, batch_size=8)
    expected = cache_features(tiny_trunk(), (inputs, targets), batch_size=8)
    got = features.gather(torch.arange(24))
    pairs = [
        sorted((tuple(row.tolist()), int(label)) for row, label in zip(values["hidden"], labels, strict=True))
        for values, labels in (got, expected.gather(torch.arange(24)))  # in whatever order Ray has given them
    ]
    assert pairs[0] == pairs[1]


def test_more_than_a_machine_has_is_refused(ray):
    """Ray itself would wait for ever."""
    with pytest.raises(CacheError, match=r"A worker needs 1 GPU, and the Ray cluster has 0\. Ask for less, gpus=…"):
        Ray(workers=1, gpus=1).run(lambda share: share)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0, "gpus": -1}, "workers is 0, expected 1 or more; gpus is -1, expected 0 or more"),
        ({"engine": Engine(runtime="fast")}, "each worker would choose by its own measurement"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(CacheError, match=message):
        Ray(**arguments)


@pytest.mark.parametrize(
    ("store", "data", "workers", "message"),
    [
        (None, tiny_data(8), WORKERS, "pass a folder that all nodes see"),
        ("folder", iter(()), WORKERS, "several workers cannot share it"),
        ("folder", tiny_data(8), Ray(workers=1, gpus=1), r"The model is on the CPU, and each worker has 1 GPUs"),
    ],
)
def test_what_workers_cannot_do_is_refused_before_any_is_started(store, data, workers, message):
    with pytest.raises(CacheError, match=message):
        cache_features(tiny_trunk(), data, store, engine=workers)


def test_what_cannot_be_sent_is_refused(ray, tmp_path):
    """An open file, for instance."""
    data = Named()
    data.file = (tmp_path / "file").open("w")
    with pytest.raises(CacheError, match=r"cannot be sent to other processes: .*\nOpen files and connections when"):
        build(tmp_path, WORKERS, data)
    data.file.close()


def test_a_store_is_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert FolderStore("features", memory_bytes=5).absolute().root == tmp_path / "features"
    assert FolderStore("memory://features").absolute().root == "memory://features"
