"""safetensors: one file, shards, and headers that lie."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from regraft.errors import CheckpointError
from regraft.formats.safetensors_file import Safetensors
from regraft.reading import open_checkpoint

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.int64)


def sharded(folder, weight_map=None):
    save_file({"a": A}, folder / "m-1.safetensors", metadata={"format": "pt"})
    save_file({"b": B}, folder / "m-2.safetensors", metadata={"format": "pt"})
    told = weight_map or {"b": "m-2.safetensors", "a": "m-1.safetensors"}
    (folder / "m.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": told}))
    return folder / "m.safetensors.index.json"


def test_shards_are_opened_by_their_index_or_folder(tmp_path):
    """In the index's order."""
    index = sharded(tmp_path)

    for path in (index, tmp_path):
        checkpoint = open_checkpoint(path)
        assert list(checkpoint) == ["b", "a"]
        np.testing.assert_array_equal(checkpoint.read("a"), A, strict=True)
    assert len(checkpoint.files) == 3


@pytest.mark.parametrize(
    ("weight_map", "told"),
    [
        ({"a": "m-1.safetensors", "c": "m-9.safetensors"}, r"1 of 2 shards are missing: m-9\.safetensors"),
        ({"a": "m-2.safetensors"}, "1 arrays are not in the shard that the index names: a"),
        ({"a": "../m-1.safetensors"}, "refused to open '../m-1.safetensors'"),
        ({"a": "/etc/passwd"}, "refused to open '/etc/passwd'"),
        ({"a": 3}, 'no "weight_map"'),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path, weight_map, told):
    """Before anything is read."""
    with pytest.raises(CheckpointError, match=told):
        Safetensors().open(sharded(tmp_path, weight_map))


def test_every_dtype_of_torch_is_read(tmp_path):
    """bfloat16 and float8 widened."""
    state = {
        str(kind).removeprefix("torch."): torch.tensor([0.5, -2]).to(kind)
        for kind in (torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    }
    save_torch(state, tmp_path / "m.safetensors")

    checkpoint = open_checkpoint(tmp_path / "m.safetensors")

    assert {name: info.dtype for name, info in checkpoint.items()} == {name: name for name in state}
    assert all(checkpoint.read(name).tolist() == [0.5, -2] for name in state)


def raw(folder, header, data=b""):
    """A file with this header, as it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder / "m.safetensors"


def told(first, last, *, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ({"a": told(0, 4), "b": told(2, 6)}, 6, "b begins at byte .*gaps and overlaps are refused"),
        ({"a": told(4, 8)}, 8, "a begins at byte .*gaps and overlaps"),
        ({"a": told(0, 4)}, 8, "arrays end at byte .*, the file at"),
        ({"a": told(0, 1 << 50, shape=(1 << 48,))}, 4, "arrays end at byte"),
        ({"a": told(0, 4, shape=(1 << 48,))}, 4, "but 4 bytes are stored"),
        ({"a": told(0, 4, shape=(-1,))}, 4, "entry for 'a' is damaged"),
        ({"a": told(0, 4, dtype="F99")}, 4, "dtype 'F99'"),
        ({"a": {"dtype": "F32"}}, 4, "entry for 'a' is damaged"),
        (b'{"a": 1, "a": 2}', 0, "a name comes twice"),
        (b"[1, 2]", 0, "no JSON object"),
        (b"{", 0, "no JSON"),
        (b"[" * 100_000, 0, "no JSON"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, header, size, message):
    """Nothing is allocated for them."""
    with pytest.raises(CheckpointError, match=message):
        Safetensors().open(raw(tmp_path, header, bytes(size)))


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    """Whatever it claims."""
    (tmp_path / "m.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")

    with pytest.raises(CheckpointError, match="header claims 4611686018427387904 bytes, the file has 10"):
        Safetensors().open(tmp_path / "m.safetensors")
