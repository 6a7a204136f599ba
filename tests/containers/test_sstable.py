"""Sorted string tables: entries, compression, checksums."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.containers.sstable import Table, is_table
from regraft.errors import CheckpointError
from snap import literals
from tables import table

ENTRIES = {f"layer{i:03}/kernel".encode(): bytes([i]) * i for i in range(60)} | {b"": b"head"}


def written(folder, entries=ENTRIES, **how):
    path = folder / "t.index"
    path.write_bytes(table(entries, **how))
    return path


@settings(max_examples=30)
@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=50), max_size=40), st.integers(1, 9))
def test_entries_come_back_in_order(tmp_path_factory, entries, per_block):
    """Keys with shared beginnings, blocks of any size."""
    path = written(tmp_path_factory.mktemp("t"), entries, per_block=per_block)

    assert [(key, bytes(value)) for key, value in Table(path)] == sorted(entries.items())


def test_compressed_blocks_are_read(tmp_path):
    """Snappy's kind byte is 1."""
    opened = Table(written(tmp_path, compress=literals))

    assert {key: bytes(value) for key, value in opened} == ENTRIES
    assert bytes(opened.first_value()) == b"head"


def test_one_value_is_found_in_the_one_block_that_can_hold_it(tmp_path):
    """And what is not there is None."""
    opened = Table(written(tmp_path, per_block=3))

    assert bytes(opened.get(b"layer042/kernel")) == bytes([42]) * 42
    assert opened.get(b"layer042/bias") is None
    assert opened.get(b"zzz") is None


def test_the_first_value_of_a_large_block_is_read_alone(tmp_path):
    """The arrays beside it stay where they are, whatever their checksum."""
    path = written(tmp_path, {b"": b"head", b"a": bytes(2 << 20)})
    content = bytearray(path.read_bytes())
    content[1 << 20] ^= 1
    path.write_bytes(content)

    opened = Table(path)

    assert bytes(opened.first_value()) == b"head"
    with pytest.raises(CheckpointError, match="checksum of the block at offset 0 is wrong"):
        opened.get(b"a")


def test_a_table_without_a_head_is_refused(tmp_path):
    """The empty key comes first."""
    with pytest.raises(CheckpointError, match="does not describe the table"):
        Table(written(tmp_path, {b"a": b"b"})).first_value()
    with pytest.raises(CheckpointError, match="the table is empty"):
        Table(written(tmp_path, {})).first_value()


def test_every_changed_byte_of_a_block_is_noticed(tmp_path):
    """The checksum covers content and kind."""
    path = written(tmp_path, {b"a": b"value"})
    whole = path.read_bytes()
    for at in range(whole.index(b"value") + 12):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=r"t\.index: .*download it again|t\.index: (.|\n)*damaged"):
            list(Table(path))


def test_what_is_no_table_is_said(tmp_path):
    """Judged by its end."""
    (tmp_path / "x").write_bytes(bytes(100))

    assert not is_table(tmp_path / "x")
    assert not is_table(tmp_path / "missing")
    assert not is_table(tmp_path)
    with pytest.raises(CheckpointError, match="magic number"):
        Table(tmp_path / "x")
