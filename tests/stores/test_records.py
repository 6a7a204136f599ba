"""Commit records: bound to their entry, checked before they are believed."""

import shutil

import pytest

from regraft.errors import CacheError
from regraft.stores.folder import FolderStore
from regraft.stores.places import LocalPlace
from regraft.stores.records import make_record, read_commit, record_text
from regraft.testing import STORE_MANIFEST, part_of

FACTS, _ = make_record("p1", *part_of(5), key="k1")


def test_a_part_of_another_entry_is_refused(tmp_path):
    """Record and shard copied from another model's entry fit together, and are wrong."""
    for key in ("k1", "k2"):
        FolderStore(tmp_path).entry(key, STORE_MANIFEST).commit(f"p-{key}", *part_of(5))
    for path in (tmp_path / "k2/parts").iterdir():
        shutil.copy(path, tmp_path / "k1/parts")
    with pytest.raises(CacheError, match=r"(?s)p-k2.json belongs to the entry k2, and was copied into k1.*Remove"):
        FolderStore(tmp_path).entry("k1", STORE_MANIFEST).parts()


WRONG = {
    "few checksums": {"crc32": []},
    "unknown dtype": {"tensors": {"F32": ["F31", [5, 7], 0, 140]}},
    "huge shape": {"tensors": {"F32": ["F32", [5, 1 << 60], 0, 140]}},
    "negative shape": {"tensors": {"F32": ["F32", [-5, -7], 0, 140]}},
    "beyond the shard": {"tensors": {"F32": ["F32", [5, 7], 1 << 20, (1 << 20) + 140]}},
    "no numbers": {"size": "many"},
    "a list": {"tensors": []},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_facts_that_describe_no_shard_are_refused_by_the_files_name(tmp_path, change):
    """With a right checksum of themselves, as a faulty program would write it."""
    place = LocalPlace(tmp_path)
    place.write("parts/p1.json", [record_text({**FACTS, **change})])
    with pytest.raises(CacheError, match=r"p1.json has changed since it was written"):
        read_commit(place, "p1", key="k1")


def test_nested_brackets_are_no_record(tmp_path):
    """They exhaust the decoder's recursion."""
    place = LocalPlace(tmp_path)
    place.write("parts/p1.json", [b"[" * 100_000])
    with pytest.raises(CacheError, match=r"p1.json has changed since it was written"):
        read_commit(place, "p1", key="k1")
