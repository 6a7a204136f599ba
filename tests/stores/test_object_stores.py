"""Features on an S3 server: exclusive leases, few requests, the same bytes as in a folder."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from regraft.caches import planning
from regraft.caches.maintenance import list_entries, verify_entries
from regraft.caches.options import Engine, Share
from regraft.caches.planning import lease_of
from regraft.caching import cache_features, fill_features
from regraft.errors import CacheError
from regraft.stores.folder import FolderStore
from regraft.stores.leases import Leases
from regraft.stores.places import place_of
from regraft.stores.processes import machine
from regraft.testing import StoreContract
from s3 import BUCKET, counted_requests, objects, s3_server
from trunks import plainly, tiny_data, tiny_trunk

DEAD = json.dumps({"machine": machine(), "pid": 2**22 + 1, "started": "1"}).encode()


@pytest.fixture(scope="module")
def client():
    """One server for all tests of this module."""
    with pytest.MonkeyPatch.context() as patch, s3_server(patch) as client:
        yield client


@pytest.fixture
def url(client, tmp_path):
    """A folder of its own for each test."""
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def small_parts(monkeypatch):
    """Eight rows a part."""
    monkeypatch.setattr(planning, "PART_BYTES", 8 * 16)


@pytest.mark.usefixtures("client")
class TestObjectStore(StoreContract):
    """Everything that a store promises."""

    def make_store(self, tmp_path):
        """An empty store under a name of its own."""
        return FolderStore(f"s3://{BUCKET}/{tmp_path.name}/contract")


def test_of_builders_that_ask_at_once_one_gets_the_lease(url):
    """A free one, and one whose owner is dead."""
    place = place_of(url)
    for name in ("free-0", "free-1", "dead-0", "dead-1"):
        if name.startswith("dead"):
            place.create(f"leases/{name}.lock", DEAD)
        asking, together = [Leases(place_of(url)) for _ in range(8)], threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda leases, name=name, at=together: (at.wait(), leases.acquire(name))[1], asking))
        assert sum(won) == 1
        for leases in asking:
            leases.release(name)
    assert place.names("leases") == []


def test_a_part_takes_few_requests_and_an_entry_is_opened_by_few(url, monkeypatch, small_parts):
    """Lease 1, look 1, commit 2, release 1; beyond that a constant, however many parts there are."""
    counts, opened = {}, {}
    for rows in (160, 320):
        data = tiny_data(rows)
        with counted_requests(monkeypatch) as requests:
            fill_features(tiny_trunk(), data, f"{url}-{rows}", batch_size=8, engine=Engine(share=Share(0, 2)))
        counts[rows] = requests
        with counted_requests(monkeypatch) as requests:
            (key,) = FolderStore(f"{url}-{rows}").manifests()
            assert len(place_of(f"{url}-{rows}/{key}").names("parts")) == rows // 8
            entry = FolderStore(f"{url}-{rows}").entry(key, FolderStore(f"{url}-{rows}").manifests()[key])
            assert len(entry.parts()) == rows // 8
        opened[rows] = requests.total()
    parts = (320 - 160) // 8
    assert counts[320].total() - counts[160].total() == 5 * parts
    assert counts[320]["put_object"] - counts[160]["put_object"] == 3 * parts
    assert counts[320]["list_objects_v2"] - counts[160]["list_objects_v2"] == 0
    assert opened[320] == opened[160] <= 25


def of_parts(files):
    """Without the files that only one builder has written for itself: joined records, reports."""
    return {name: content for name, content in files.items() if name.split("/")[1] not in ("catalog", "workers")}


def test_features_on_s3_are_those_in_a_folder(url, client, tmp_path, small_parts):
    """Two builders, one of which begins while the other is amid a part, and a dead third one: byte for byte."""
    (inputs, labels), trunk = tiny_data(75), tiny_trunk()
    plain, done = trunk.module.forward, []

    def with_another(x):
        if trunk.calls == 2:
            done.append(fill_features(tiny_trunk(), (inputs, labels), url, batch_size=8, wait=False,
                                      engine=Engine(share=Share(1, 2))))  # fmt: skip
        return plain(x)

    trunk.module.forward = with_another
    filled = fill_features(trunk, (inputs, labels), url, batch_size=8, engine=Engine(share=Share(0, 2)))
    alone = fill_features(tiny_trunk(), (inputs, labels), tmp_path, batch_size=8)

    assert (filled.missing, filled.computed + done[0].computed, alone.computed) == (0, 75, 75)
    here = {str(path.relative_to(tmp_path)): path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file()}
    assert of_parts(objects(client, f"{tmp_path.name}/")) == of_parts(here)
    features = cache_features(tiny_trunk(), (inputs, labels), url, batch_size=8)
    assert features.computed == 0
    assert torch.equal(features.inputs["hidden"], plainly(tiny_trunk(), inputs, 8))
    assert [(entry.state, entry.rows) for entry in list_entries(url)] == [("whole", 75)]
    assert list(verify_entries(url).values()) == [[]]


def test_a_dead_builders_lease_is_taken_over_and_nothing_of_it_stays(url, small_parts):
    """Nor of a lease for a part that it had committed already."""
    data = tiny_data(40)
    fill_features(tiny_trunk(), data, url, batch_size=8, engine=Engine(share=Share(0, 2)))
    (key,) = FolderStore(url).manifests()
    place, entry = place_of(f"{url}/{key}"), FolderStore(url).entry(key, FolderStore(url).manifests()[key])
    leases = [lease_of(part.ids) for part in entry.parts()]
    shard = place.names("parts")[0]
    place.remove_file(f"parts/{shard}")
    place.remove_file(f"records/{shard.split('-')[0]}.record")
    for lease in leases:
        place.create(f"leases/{lease}.lock", DEAD)
    assert fill_features(tiny_trunk(), data, url, batch_size=8, engine=Engine(share=Share(1, 2))).computed == 8
    assert len(entry.parts()) == len(leases) == 5
    assert place.names("leases") == place.names("builds") == []


def test_a_server_that_ignores_the_condition_is_not_shared(url, monkeypatch):
    """It would let two builders have one lease. One builder may use it."""
    import s3fs

    plain = s3fs.S3FileSystem._pipe_file

    async def careless(system, path, data, mode="overwrite", **named):
        return await plain(system, path, data, **named)

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", careless)
    with pytest.raises(CacheError, match=r"(?s)Several builders cannot share this store.*object store \(s3://"):
        fill_features(tiny_trunk(), tiny_data(), url, batch_size=8, engine=Engine(share=Share(0, 2)))
    assert fill_features(tiny_trunk(), tiny_data(), url, batch_size=8).computed == 40
    s3fs.S3FileSystem.clear_instance_cache()
