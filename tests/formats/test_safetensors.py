"""safetensors: every dtype, and headers that lie."""

import json

import pytest
import torch
from safetensors.torch import save_file as save_torch

from regraft.errors import CheckpointError
from regraft.formats.safetensors import Safetensors
from regraft.reading import open_checkpoint


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
        (b'{"a": 1, "a": 2}', 0, "a name is given twice"),
        (b"[1, 2]", 0, "not a JSON object"),
        (b"{", 0, "not valid JSON"),
        (b"[" * 100_000, 0, "too many brackets"),
        (b'{"a":' + b"{}," * 10_000, 0, "too many brackets"),
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
