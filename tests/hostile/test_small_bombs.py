"""Small files that would take hours or gigabytes: each is refused at once. Names that would rule a terminal.

`pytest-timeout` ends a test that hangs; memory is measured.
"""

import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from flat import flat
from regraft.errors import CheckpointError
from regraft.formats.listing import as_table
from regraft.reading import open_checkpoint
from written import fields, write_params

SHARED = b"K\x01" + b"\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60  # (1,), then 60 times (x, x): 2⁶⁰ parts


def torch_file(folder, pickled, name="m.pt"):
    """An archive of torch with this pickle and one storage of four numbers."""
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("m/data.pkl", pickled)
        archive.writestr("m/data/0", np.ones(4, "f").tobytes())
        archive.writestr("m/version", "3\n")
    return folder / name


def tensor(offset=b"K\x00", shape=b"K\x04\x85", strides=b"K\x01\x85"):
    """The pickle of one tensor, with these parts as opcodes."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89}tR"


LONG = b"\x8b" + struct.pack("<I", 100_000) + b"\x7f" * 100_000  # a whole number of 240,000 digits


@pytest.mark.parametrize("pickled", [
    tensor(shape=SHARED), tensor(strides=SHARED), tensor(offset=SHARED), tensor(shape=LONG + b"\x85"),
    b"}" + b"cmine\nThing\n" + SHARED + b"\x81" + tensor() + b"s",
    b"}" + b"ctorch\nSize\n" + SHARED + b"\x85R" + tensor() + b"s",
    b"}" + LONG + tensor() + b"s" + LONG + b"2" + tensor() + b"s",
    b"}" + tensor(shape=SHARED) + b"K\x01s",
], ids=["shape", "strides", "offset", "long shape", "object as key", "size as key", "long keys",
        "tensor as key"])  # fmt: skip
def test_a_tuple_that_holds_itself_makes_no_text_without_end(tmp_path, pickled):
    """577 bytes were enough to hang `regraft show` for ever."""
    path = torch_file(tmp_path, b"\x80\x02" + pickled + b".")

    tracemalloc.start()
    try:
        assert all(len(name) < 1000 for name in open_checkpoint(path))
    except CheckpointError as error:
        assert len(str(error)) < 10_000  # noqa: PT017 - either is right
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("shape", [SHARED, LONG + b"\x85"])
def test_the_same_in_a_pickle_of_numpy_s(tmp_path, shape):
    """An array's shape is checked before it is looked at."""
    content = pickle.dumps(np.ones(3), 2)
    (tmp_path / "m.pkl").write_bytes(content.replace(b"K\x03\x85", shape))

    with pytest.raises(CheckpointError, match="not a tuple of whole numbers"):
        open_checkpoint(tmp_path / "m.pkl")


def test_a_header_of_a_million_empty_entries_is_refused(tmp_path):
    """Python's objects for it would take 25 times its size."""
    header = b'{"a":[' + b",".join([b"{}"] * 300_000) + b"]}"
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)

    tracemalloc.start()
    with pytest.raises(CheckpointError, match="too many brackets"):
        open_checkpoint(tmp_path / "m.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(header)


def test_a_header_of_many_arrays_is_read(tmp_path):
    """Of one number each, under short names."""
    save_file({f"{number}": np.ones(1, "f") for number in range(2000)}, tmp_path / "m.safetensors")

    assert len(open_checkpoint(tmp_path / "m.safetensors")) == 2000


def test_subgraphs_that_share_their_tables_are_refused(tmp_path):
    """A list of ten thousand offsets to one subgraph of ten thousand tensors is 10⁸ tensors."""
    tensors = [{0: np.ones(1, "<i4"), 3: "t"} for _ in range(3000)]
    content = bytearray(flat({0: ("I", 3), 1: [], 2: [{0: tensors, 3: []}], 4: [{}]}, b"TFL3"))
    root = struct.unpack_from("<I", content)[0]
    field = root - struct.unpack_from("<i", content, root)[0] + 4 + 2 * 2
    vector_at = root + struct.unpack_from("<H", content, field)[0]
    first = vector_at + struct.unpack_from("<I", content, vector_at)[0] + 4
    table = first + struct.unpack_from("<I", content, first)[0]
    copy = bytes(content)  # offsets lead forward, so the list is followed by what it shares
    begin = len(content)
    behind = begin + 4 + 4 * 20_000
    content += struct.pack("<I", 20_000)
    content += b"".join(struct.pack("<I", behind + table - (begin + 4 + 4 * number)) for number in range(20_000))
    content[vector_at : vector_at + 4] = struct.pack("<I", begin - vector_at)
    (tmp_path / "m.tflite").write_bytes(bytes(content) + copy)

    with pytest.raises(CheckpointError, match="shared too often"):
        open_checkpoint(tmp_path / "m.tflite")


NAME = "conv\x1b]0;owned\x07\nnote: trusted\u202e"


def written_with(folder, name, kind):
    """A checkpoint with an array of this name."""
    array = np.ones(2, "f")
    path = folder / f"m.{kind}"
    if kind == "safetensors":
        save_file({name: array}, path)
    elif kind == "pt":
        torch.save({name: torch.ones(2)}, path)
    elif kind == "pkl":
        path.write_bytes(pickle.dumps({name: array}))
    elif kind == "params":
        write_params(path, {name: array})
    elif kind == "json":
        (folder / "w.bin").write_bytes(array.tobytes())
        weights = [{"name": name, "shape": [2], "dtype": "float32"}]
        path.write_text(json.dumps([{"paths": ["w.bin"], "weights": weights}]))
    else:
        initializer = fields((1, 2), (2, 1), (8, name), (9, array.tobytes()))
        path.write_bytes(fields((1, 8), (2, "made"), (7, fields((2, "g"), (5, initializer)))))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pkl", "params", "json", "onnx"])
def test_a_name_that_would_rule_a_terminal_is_printed_with_escapes(tmp_path, kind):
    """Escape sequences, forged lines, changes of direction; other languages and symbols are names as all others."""
    assert "层/weight ✓" in as_table(open_checkpoint(written_with(tmp_path, "层/weight ✓", kind)))

    printed = as_table(open_checkpoint(written_with(tmp_path, NAME, kind)))

    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert not any(line.startswith("note: trusted") for line in printed.splitlines())


def test_a_reader_s_own_errors_and_notes_are_printable_too(tmp_path):
    """An array whose values are cut short is named in the error, one without numbers in a note."""
    header = json.dumps({NAME: {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointError, match="8 bytes") as raised:
        open_checkpoint(tmp_path / "m.safetensors")
    assert "\x1b" not in str(raised.value)

    (tmp_path / "n.pkl").write_bytes(pickle.dumps({"w": np.ones(2), NAME: np.array(["a"])}))
    assert "\x1b" not in as_table(open_checkpoint(tmp_path / "n.pkl"))
