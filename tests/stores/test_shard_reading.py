"""Reading a shard: only what was committed is given out. Damage of every kind: test_folder.py."""

import pytest
import torch

from regraft.errors import CacheError
from regraft.stores.places import LocalPlace
from regraft.stores.records import make_record
from regraft.stores.shard_reading import ShardReader
from regraft.tensors.fingerprints import as_bytes
from regraft.testing import part_of


def test_a_block_is_checked_before_its_first_use_and_after_a_change(tmp_path):
    """Rows are read straight into memory; a changed byte is found though the block was checked before."""
    ids, tensors = part_of(9)
    record, chunks = make_record("p1", ids, tensors, key="k1")
    place = LocalPlace(tmp_path)
    place.write(f"parts/{record.file}", chunks)
    reader, out = ShardReader(place, record), torch.zeros(5, 7)

    assert reader.read_into(as_bytes(out).data, "F32", [(0, 2), (5, 8)]) == 5 * 7 * 4
    assert torch.equal(out, tensors["F32"][[0, 1, 5, 6, 7]])

    path = tmp_path / "parts" / record.file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"(?s)p1-\w+\.safetensors has changed since it was written.*Remove the file"):
        reader.read_into(as_bytes(out).data, "F32", [(0, 5)])
