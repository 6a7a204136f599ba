"""Commit records: bound to their entry, checked before they are believed, one or many in a file."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from regraft.errors import CacheError
from regraft.stores.folder import FolderStore
from regraft.stores.places import LocalPlace
from regraft.stores.records import RecordTable, decode, make_record, read_table
from regraft.testing import STORE_MANIFEST, part_of

RECORDS = [make_record(name, *part_of(count, seed=name), key="k1")[0] for name, count in (("p2", 3), ("p1", 5))]
TABLE = RecordTable.of(RECORDS[1:])


def test_a_table_gives_back_its_records():
    """In the order of their names, with equal layouts kept once."""
    again = make_record("p3", *part_of(5, seed="p3"), key="k1")[0]
    table = decode(RecordTable.of([*RECORDS, again]).content())
    assert (table.key, table.part_names(), len(table.layouts)) == ("k1", ["p1", "p2", "p3"], 2)
    for row, record in enumerate([RECORDS[1], RECORDS[0], again]):
        got = table.record(row)
        assert (got.file, got.size, got.sha256, got.tensors) == (
            record.file,
            record.size,
            record.sha256,
            record.tensors,
        )
        assert np.array_equal(got.checksums, record.checksums)
        assert np.array_equal(got.part.ids, record.part.ids)
        assert got.part.tensors == record.part.tensors
    assert [(name, size) for name, _, size in table.files()] == [
        ("p1", RECORDS[1].size), ("p2", RECORDS[0].size), ("p3", again.size)]  # fmt: skip
    assert [file for _, file, _ in table.files()] == [RECORDS[1].file, RECORDS[0].file, again.file]


def test_a_part_of_another_entry_is_refused(tmp_path):
    """Record and shard copied from another model's entry fit together, and are wrong."""
    for key in ("k1", "k2"):
        FolderStore(tmp_path).entry(key, STORE_MANIFEST).commit(f"p-{key}", *part_of(5))
    for folder in ("parts", "records"):
        for path in (tmp_path / "k2" / folder).iterdir():
            shutil.copy(path, tmp_path / "k1" / folder)
    with pytest.raises(CacheError, match=r"(?s)p-k2.record belongs to the entry k2, and was copied into k1.*Remove"):
        FolderStore(tmp_path).entry("k1", STORE_MANIFEST).parts()


def forged(change):
    """A record with a right checksum of itself, as a faulty program would write it."""
    content = TABLE.content()
    start = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:start])
    change(head)
    text = json.dumps(head).encode()
    body = len(text).to_bytes(8, "little") + text + content[start:-32]
    return body + hashlib.sha256(body).digest()


def tensor(head):
    """The layout of the tensor F32."""
    return head["layouts"][0]["F32"]


WRONG = {
    "few checksums": lambda head: head["columns"].update(crc32=["<u4", [0]]),
    "unknown dtype": lambda head: tensor(head).__setitem__(0, "F31"),
    "huge shape": lambda head: tensor(head).__setitem__(1, [5, 1 << 60]),
    "negative shape": lambda head: tensor(head).__setitem__(1, [-5, -7]),
    "beyond the shard": lambda head: tensor(head).__setitem__(slice(2, 4), [1 << 20, (1 << 20) + 140]),
    "no numbers": lambda head: head["columns"].update(rows=["<i8", "many"]),
    "objects": lambda head: head["columns"].update(rows=["O", [1]]),
    "a list": lambda head: head.update(layouts=[[]]),
    "no parts": lambda head: head.update(names=[]),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_facts_that_describe_no_shard_are_refused_by_the_files_name(tmp_path, change):
    """With a right checksum of themselves."""
    place = LocalPlace(tmp_path)
    place.write("records/p1.record", [forged(change)])
    with pytest.raises(CacheError, match=r"p1.record has changed since it was written"):
        read_table(place, "records/p1.record", key="k1")


def test_nested_brackets_are_no_record():
    """They exhaust the decoder's recursion."""
    body = (100_000).to_bytes(8, "little") + b"[" * 100_000
    assert decode(body + hashlib.sha256(body).digest()) is None
