"""Entries of a feature folder: listed, verified, cleared."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from regraft.caches import keys
from regraft.caches.keys import key_of
from regraft.caches.maintenance import (
    clear_entries,
    entries_table,
    list_entries,
    tidy_entries,
    verify_entries,
    verify_entry,
)
from regraft.caching import cache_features
from regraft.errors import CacheError
from regraft.freezing import freeze
from regraft.splitting import split
from trunks import tiny_data, tiny_trunk
from typed import typed


@pytest.fixture(params=["here", "memory", "local"])
def root(request, tmp_path):
    """A folder with two entries, an older and a newer one, and a folder that is none of ours."""
    root = {"here": str(tmp_path / "f"), "memory": f"memory://{tmp_path.name}/f", "local": f"file://{tmp_path}/f"}
    for seed in (0, 1):
        cache_features(tiny_trunk(seed), tiny_data(), root[request.param], batch_size=8)
    (tmp_path / "f" / "mine").mkdir(parents=True)
    return root[request.param]


def test_entries_are_listed_with_what_they_hold(root):
    """The newest first."""
    entries = list_entries(root)
    assert [(entry.state, entry.rows, entry.cut) for entry in entries] == [("whole", 40, "hidden 4 float32")] * 2
    assert entries[0].age_s <= entries[1].age_s < 600
    assert entries_table(entries).endswith(f"2 entries, {sum(entry.bytes for entry in entries) / 1e3:.1f} kB")


def test_an_entry_tells_its_model(tmp_path):
    """By its class, where its own forward is part of the trunk; else by its layers."""
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    freeze(model, "0")
    inputs, labels = tiny_data()
    cache_features(split(model, inputs[:2])[0], (inputs, labels), tmp_path, precision="bfloat16")
    entry = list_entries(tmp_path)[0]
    assert entry.of == "Linear, ReLU"
    assert entry.cut.endswith(" 5 float32, stored as bfloat16")


def test_whole_entries_have_no_problem(root):
    """Every byte is hashed."""
    assert list(verify_entries(root).values()) == [[], []]


def test_verifying_finds_a_changed_byte(tmp_path):
    """Where the listing, which compares sizes, does not look."""
    key = cache_features(tiny_trunk(), tiny_data(), tmp_path).key
    shard = next(tmp_path.rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x77")
    assert list_entries(tmp_path)[0].state == "whole"
    assert [shard.name in problem for problem in verify_entry(tmp_path, key)] == [True]


def test_a_truncated_shard_and_a_lost_manifest_are_listed(tmp_path):
    """As changed, with the file's name."""
    cache_features(tiny_trunk(), tiny_data(), tmp_path)
    shard = next(tmp_path.rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert list_entries(tmp_path)[0].state == "changed"
    assert shard.name in entries_table(list_entries(tmp_path))
    next(tmp_path.rglob("manifest.json")).unlink()
    assert "manifest.json is missing" in entries_table(list_entries(tmp_path))


def test_an_interrupted_build_is_told(tmp_path):
    """And one under way is, which is never cleared."""
    key = cache_features(tiny_trunk(), tiny_data(), tmp_path).key
    (tmp_path / key / "builds").mkdir(exist_ok=True)
    (tmp_path / key / "builds" / "40-aa.json").write_text("{}")
    assert list_entries(tmp_path)[0].state == "interrupted"
    (tmp_path / key / "leases").mkdir(exist_ok=True)
    lease = {"machine": "another", "pid": 1, "started": "1", "token": "x", "beat": 0}
    (tmp_path / key / "leases" / "aa.lock").write_text(json.dumps(lease))
    assert list_entries(tmp_path)[0].state == "building"
    assert clear_entries(tmp_path, keep_bytes=0) == []
    with pytest.raises(CacheError, match="being built; nothing was cleared"):
        clear_entries(tmp_path, key=key)


def test_an_entry_of_another_layout_is_told_and_never_used(tmp_path, monkeypatch):
    """What is needed is computed again beside it."""
    monkeypatch.setattr(keys, "LAYOUT", 1)
    cache_features(tiny_trunk(), tiny_data(), tmp_path)
    monkeypatch.undo()
    (old,) = list_entries(tmp_path)
    assert old.state == "outdated"

    told = []
    assert cache_features(tiny_trunk(), tiny_data(), tmp_path, tell=told.append).computed == 40

    assert told[0].startswith("1 stored entry is of a version of regraft that stored otherwise")
    assert old.key in told[0]
    assert sorted(entry.state for entry in list_entries(tmp_path)) == ["outdated", "whole"]


def test_an_entry_of_an_earlier_layout_is_outdated_not_changed(tmp_path, monkeypatch):
    """Its records are others and lie elsewhere: only the disk that it takes is known."""
    monkeypatch.setattr(keys, "LAYOUT", 3)
    key = cache_features(tiny_trunk(), tiny_data(), tmp_path).key
    monkeypatch.undo()
    for name in ("records", "catalog"):
        shutil.rmtree(tmp_path / key / name, ignore_errors=True)
    (tmp_path / key / "parts" / "p1.json").write_text("{}")
    (old,) = list_entries(tmp_path)
    assert (old.state, old.rows, old.bytes > 640, verify_entry(tmp_path, key)) == ("outdated", 0, True, [])
    assert tidy_entries(tmp_path) == {}
    assert [entry.key for entry in clear_entries(tmp_path, key=key)] == [key]


@pytest.mark.parametrize("manifest", [[1], "text", {"trunk": [], "cut": 3}, {"trunk": {"modules": [1]}, "cut": [[1]]}])
def test_a_manifest_of_another_program_is_listed_all_the_same(tmp_path, manifest):
    """Whoever can compute the key of a manifest can write any."""
    key = key_of(manifest)
    (tmp_path / key).mkdir()
    (tmp_path / key / "manifest.json").write_text(json.dumps(manifest))
    (entry,) = list_entries(tmp_path)
    assert (entry.of, entry.cut) == ("unknown model", "unknown cut")


def test_a_link_to_an_entry_is_removed_and_not_what_it_links_to(tmp_path):
    """The entry itself belongs to another folder."""
    key = cache_features(tiny_trunk(), tiny_data(), tmp_path / "there").key
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / key).symlink_to(tmp_path / "there" / key)
    clear_entries(tmp_path / "here", key=key)
    assert (list_entries(tmp_path / "here"), len(list_entries(tmp_path / "there"))) == ([], 1)


def test_an_entry_is_cleared_by_its_key(root):
    """A beginning that only one has is enough; a stranger's folder stays."""
    gone, kept = list_entries(root)
    assert [entry.key for entry in clear_entries(root, key=gone.key[:8])] == [gone.key]
    assert [entry.key for entry in list_entries(root)] == [kept.key]


def test_the_oldest_go_until_the_rest_fits(root):
    """The newest stays."""
    newer, older = list_entries(root)
    assert [entry.key for entry in clear_entries(root, keep_bytes=newer.bytes)] == [older.key]
    assert clear_entries(root, keep_bytes=newer.bytes) == []


def test_old_entries_are_cleared_by_age(tmp_path):
    """Counted from the last part; a clock that was moved back makes nothing old."""
    for seed in (0, 1, 2):
        cache_features(tiny_trunk(seed), tiny_data(), tmp_path)
    first, second, third = list_entries(tmp_path)
    for entry, days in ((first, 10), (second, -10), (third, 1)):
        for record in (tmp_path / entry.key).glob("*/*.record"):
            os.utime(record, (0, time.time() - days * 86400))
    assert [entry.key for entry in clear_entries(tmp_path, older_than_s=5 * 86400)] == [first.key]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "choose entries by key"),
        ({"key": "zz"}, r"No entry has the key 'zz'"),
        ({"key": ""}, "the key is empty"),
        ({"older_than_s": -1.0}, r"the age in seconds is -1\.0, expected 0 or more"),
        ({"keep_bytes": -1}, "the size in bytes is -1"),
        ({"keep_bytes": float("nan")}, "the size in bytes is nan"),
        ({"keep_bytes": float("inf")}, "the size in bytes is inf"),
    ],
)
def test_clearing_without_a_clear_rule_is_refused(tmp_path, rule, told):
    """Nothing is removed."""
    for seed in (0, 1):
        cache_features(tiny_trunk(seed), tiny_data(), tmp_path)
    with pytest.raises(CacheError, match=told):
        clear_entries(tmp_path, **rule)
    assert len(list_entries(tmp_path)) == 2


def test_a_missing_folder_or_entry_is_named(tmp_path):
    """With near names."""
    with pytest.raises(CacheError, match=r"There is no feature folder .*nowhere"):
        list_entries(tmp_path / "nowhere")
    with pytest.raises(CacheError, match=r"There is no entry 'x' in .*no names"):
        verify_entry(tmp_path, "x")


def test_the_command_line_says_the_same(tmp_path):
    """ls, verify with exit 1, clear."""
    cache_features(tiny_trunk(), tiny_data(), tmp_path)
    folder = str(tmp_path)
    key = list_entries(folder)[0].key
    assert f"{key}  whole" in typed("cache", "ls", folder).output
    assert typed("cache", "verify", folder).output == f"{key}  verified\n"
    shard = next(tmp_path.rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x77")
    done = typed("cache", "verify", folder, "--key", key)
    assert (done.code, f"{key}  changed" in done.output) == (1, True)
    assert typed("cache", "ls", folder).code == 0  # sizes are compared here, contents by verify
    shard.write_bytes(b"short")
    listed = typed("cache", "ls", folder)
    assert (listed.code, f"{key}  changed" in listed.output) == (1, True)
    (tmp_path / key / "parts" / "left-aa.safetensors").touch()
    assert typed("cache", "tidy", folder).output == f"{key}  1 removed\n"
    assert typed("cache", "tidy", folder, "--key", key[:8]).output == f"{key}  nothing to remove\n"
    assert typed("cache", "clear", folder, "--older-than-days", "1").output == "nothing to remove\n"
    assert key in typed("cache", "clear", folder, "--key", key[:6]).output
    assert typed("cache", "ls", folder).output == "no stored features\n"


def test_listing_is_quick_and_prints_errors_without_a_traceback(tmp_path):
    """As every command."""
    done = subprocess.run([sys.executable, "-c", "from regraft.cli import main; main()", "cache", "ls", "nowhere"],
                          capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "CacheError: There is no feature folder nowhere.\n")


def test_a_folder_of_somebody_is_not_cleared_though_its_name_is_like_a_key(tmp_path):
    """Photographs named by their MD5; and an entry into which somebody put a file: nothing at all is removed."""
    cache_features(tiny_trunk(0), tiny_data(), tmp_path, batch_size=8)
    (entry,) = list_entries(tmp_path)
    photos = tmp_path / "0123456789abcdef0123456789abcdef"
    photos.mkdir()
    (photos / "a.jpg").touch()
    with pytest.raises(CacheError, match=rf"{photos.name} holds files that are not those of a feature cache: a\.jpg"):
        clear_entries(tmp_path, key=photos.name)
    (tmp_path / entry.key / "parts" / "notes.txt").touch()
    with pytest.raises(CacheError, match=r"holds files .*: parts/notes\.txt"):
        clear_entries(tmp_path, older_than_s=0)
    assert (photos / "a.jpg").exists()
    assert list_entries(tmp_path)
    (tmp_path / entry.key / "parts" / "notes.txt").unlink()
    assert [cleared.key for cleared in clear_entries(tmp_path, key=entry.key)] == [entry.key]
