"""Tables as TensorFlow writes them."""

from golden_files import GOLDEN
from regraft.containers import sstable_writer
from regraft.containers.sstable import Table
from regraft.containers.sstable_writer import table_bytes

INDEX = GOLDEN / "graph_training.ckpt.index"


def test_a_table_of_tensorflow_is_written_byte_for_byte():
    """Its own entries, written again."""
    entries = {key: bytes(value) for key, value in Table(INDEX)}
    assert table_bytes(entries) == INDEX.read_bytes()


def test_many_entries_make_many_blocks(tmp_path, monkeypatch):
    """Each key is found again, through the short keys of the index block."""
    monkeypatch.setattr(sstable_writer, "_BLOCK_BYTES", 200)
    entries = {f"layer{number % 7}/a{number}".encode(): b"v" * (number % 50) for number in range(300)}
    entries[b"\xff\xff"] = b"last"
    path = tmp_path / "t.index"
    path.write_bytes(table_bytes(entries))

    table = Table(path)

    assert {key: bytes(value) for key, value in table} == entries
    assert all(bytes(table.get(key)) == value for key, value in entries.items())
    assert table.get(b"layer3/none") is None
