"""Features in a folder: what is damaged is never served."""

import json

import pytest
import torch
from safetensors.torch import load_file

from regraft.errors import CacheError
from regraft.stores import folder
from regraft.stores.folder import FolderStore
from regraft.stores.processes import machine
from regraft.testing import STORE_MANIFEST, StoreContract, part_of


class TestFolderStore(StoreContract):
    """Everything that a store promises."""

    def make_store(self, tmp_path):
        """An empty store, its folders not made yet."""
        return FolderStore(tmp_path / "a" / "b")


class TestRemoteFolder(StoreContract):
    """The same on fsspec's memory file system."""

    def make_store(self, tmp_path):
        """An empty store under a name of its own."""
        return FolderStore(f"memory://{tmp_path.name}/features")


class TestRemoteLocalFolder(StoreContract):
    """The same on fsspec's local file system."""

    def make_store(self, tmp_path):
        """An empty store."""
        return FolderStore(f"file://{tmp_path}/features")


@pytest.fixture
def filled(tmp_path):
    """A store with one committed part, its shard's and its record's path."""
    FolderStore(tmp_path).entry("k1", STORE_MANIFEST).commit("p1", *part_of(5))
    return tmp_path, next(tmp_path.glob("k1/parts/*.safetensors")), tmp_path / "k1/records/p1.record"


def read_all(root):
    """Everything that the entry serves."""
    entry = FolderStore(root).entry("k1", STORE_MANIFEST)
    return [
        entry.read(part, name, 0, shape[0]).clone()
        for part in entry.parts()
        for name, (_, shape) in part.tensors.items()
    ]


def test_a_shard_is_plain_safetensors(filled):
    """Readable by anybody."""
    _, shard, _ = filled
    assert torch.equal(load_file(shard)["F32"], part_of(5)[1]["F32"])


def test_another_process_reads_what_was_committed(filled):
    """Nothing is kept in the store object alone."""
    root, _, _ = filled
    assert len(read_all(root)) == len(part_of(5)[1])


def test_any_flipped_bit_of_a_shard_is_found(filled):
    """In the header, in a tensor's first byte, in the last one."""
    root, shard, _ = filled
    whole = shard.read_bytes()
    for at in (0, 20, len(whole) // 2, len(whole) - 1):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(CacheError, match=rf"(?s){shard.name} has changed since .*Remove the file and run again"):
            read_all(root)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damage_after_the_check_is_found_too(filled, damage):
    """The entry is open, and every block was checked; the way out of a cut file is not the end of the process."""
    root, shard, _ = filled
    entry = FolderStore(root).entry("k1", STORE_MANIFEST)
    (part,) = entry.parts()
    entry.read(part, "F32", 0, 5)
    with shard.open("r+b") as file:
        if damage == "flip":
            at = entry._record("p1").tensors["F32"].start
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
        else:
            file.truncate(100)
    with pytest.raises(CacheError, match=rf"(?s){shard.name} has changed since it was written.*Remove the file"):
        entry.read(part, "F32", 0, 5)


def test_a_shard_that_is_gone_is_told(filled):
    """By its name, with what to do."""
    root, shard, _ = filled
    entry = FolderStore(root).entry("k1", STORE_MANIFEST)
    (part,) = entry.parts()
    shard.unlink()
    with pytest.raises(CacheError, match=rf"(?s){shard.name} cannot be read.*Run again"):
        entry.read(part, "F32", 0, 5)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_truncated_shard_is_found_before_it_is_read(filled, left):
    """By its size."""
    root, shard, _ = filled
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(CacheError, match=rf"(?s){shard.name} has changed since .*expected \d+.*Remove the file"):
        FolderStore(root).entry("k1", STORE_MANIFEST).parts()


def test_any_flipped_bit_of_a_record_is_found(filled):
    """A record is checked by a checksum of itself."""
    root, _, record = filled
    whole = record.read_bytes()
    for at in range(0, len(whole), 37):
        record.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CacheError, match=r"(?s)p1.record has changed since it was written.*Remove the file"):
            FolderStore(root).entry("k1", STORE_MANIFEST).parts()


def test_removing_a_damaged_file_is_the_way_out(filled):
    """The part then counts as not built."""
    root, shard, _ = filled
    shard.unlink()
    entry = FolderStore(root).entry("k1", STORE_MANIFEST)
    assert entry.parts() == []
    entry.commit("p1", *part_of(5))
    assert len(read_all(root)) == len(part_of(5)[1])


def test_an_edited_manifest_is_refused(filled):
    """It is what the key says, or nothing is used."""
    root, _, _ = filled
    manifest = root / "k1/manifest.json"
    manifest.write_text(json.dumps({**STORE_MANIFEST, "batch_size": 16}))
    with pytest.raises(CacheError, match=r"(?s)manifest.json.*regraft cache clear"):
        FolderStore(root).entry("k1", STORE_MANIFEST)


def test_a_shard_without_a_record_does_not_count(filled):
    """The build was interrupted between the two."""
    root, _, record = filled
    record.unlink()
    assert FolderStore(root).entry("k1", STORE_MANIFEST).parts() == []


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    """With the way out."""
    (tmp_path / "features").write_text("")
    with pytest.raises(CacheError, match=r"(?s)features.*choose another folder"):
        FolderStore(tmp_path / "features").entry("k1", STORE_MANIFEST)


def test_records_are_joined_and_an_entry_is_opened_from_few_files(tmp_path, monkeypatch):
    """Whether the records themselves are still there or not."""
    monkeypatch.setattr(folder, "CATALOGUED", 4)
    entry = FolderStore(tmp_path).entry("k1", STORE_MANIFEST)
    for number in range(10):
        entry.commit(f"p{number}", *part_of(3, seed=f"{number}"))
    read, plain = [], folder.read_table
    monkeypatch.setattr(
        folder, "read_table", lambda place, file, key: (read.append(file), plain(place, file, key=key))[1]
    )

    names = [part.name for part in FolderStore(tmp_path).entry("k1", STORE_MANIFEST).parts()]

    assert names == [f"p{number}" for number in range(10)]
    assert sorted(file.split("/")[0] for file in read) == ["catalog"] * 2 + ["records"] * 2
    assert len(entry.tidy()) == 8
    assert names == [part.name for part in FolderStore(tmp_path).entry("k1", STORE_MANIFEST).parts()]


def test_what_dead_builders_left_is_removed_while_nobody_builds(tmp_path):
    """A shard without a record, a lease of a process that has ended. What another machine may still do stays."""
    entry = FolderStore(tmp_path).entry("k1", STORE_MANIFEST)
    for name in ("p1", "p2"):
        entry.commit(name, *part_of(3, seed=name))
    (tmp_path / "k1/records/p2.record").unlink()
    dead = {"machine": machine(), "pid": 2**22 + 1, "started": "1"}
    entry.place.create("leases/aa.lock", json.dumps(dead).encode())
    entry.place.create("leases/bb.lock", json.dumps({**dead, "machine": "another"}).encode())

    other = FolderStore(tmp_path).entry("k1", STORE_MANIFEST)
    assert other.tidy() == ["leases/aa.lock"]
    other.place.remove_file("leases/bb.lock")
    (orphan,) = other.tidy()
    assert orphan.startswith("parts/p2-")
    assert [part.name for part in other.parts()] == ["p1"]


def test_everybody_cuts_as_the_first_builder_did(tmp_path):
    """An interrupted build of another version is finished in its own parts. A finished one leaves no mark."""
    first, second = (FolderStore(tmp_path).entry("k1", STORE_MANIFEST) for _ in range(2))
    assert first.begin("work", {"part_rows": 64}) == {"part_rows": 64}
    assert second.begin("work", {"part_rows": 128}) == {"part_rows": 64}
    first.finish("work")
    assert second.begin("work", {"part_rows": 128}) == {"part_rows": 128}


def test_a_part_is_lacking_until_anybody_has_committed_it(tmp_path):
    """Looked up by itself, or in a listing where many are asked for; one whose shard was removed is lacking again."""
    first, second = (FolderStore(tmp_path).entry("k1", STORE_MANIFEST) for _ in range(2))
    many = [f"p{number}" for number in range(100)]
    assert second.lacking(["p1"]) == {"p1"}
    first.commit("p1", *part_of(3))
    for names in (["p1", "p2"], many):
        assert second.lacking(names) == set(names) - {"p1"}
    next((tmp_path / "k1/parts").iterdir()).unlink()
    assert second.parts() == []
    for names in (["p1", "p2"], many):
        assert second.lacking(names) == set(names)
