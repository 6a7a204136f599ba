"""A small part of a large checkpoint costs a small part of its memory, and each byte is read once.

Measured in a process of its own, against `import torch` there.
"""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from apply_in_child import SIDE

MATRIX_BYTES = 4 * SIDE * SIDE
MB = 10**6


def shards(folder, *, matrices=256, files=4):
    """1 GB of matrices in safetensors files with an index; the values are holes, which take no room on the disk."""
    placed = {}
    for number in range(files):
        names = [f"layer{index}.weight" for index in range(number, matrices, files)]
        header = {
            name: {
                "dtype": "F32",
                "shape": [SIDE, SIDE],
                "data_offsets": [index * MATRIX_BYTES, (index + 1) * MATRIX_BYTES],
            }
            for index, name in enumerate(names)
        }
        text = json.dumps(header).encode()
        with (folder / f"model-{number}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + len(names) * MATRIX_BYTES)
        placed |= dict.fromkeys(names, f"model-{number}.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return index


def torch_archive(folder, *, matrices=32):
    path = folder / "model.pt"
    torch.save({f"layer{index}.weight": torch.zeros(SIDE, SIDE) for index in range(matrices)}, path)
    return path


def gguf_file(folder, *, matrices=256):
    """1 GB of matrices behind a GGUF header; the values are holes."""
    path = folder / "model.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, matrices, 0))
        for index in range(matrices):
            name = f"layer{index}.weight".encode()
            file.write(struct.pack("<Q", len(name)) + name)
            file.write(struct.pack("<IQQIQ", 2, SIDE, SIDE, 0, index * MATRIX_BYTES))
        start = -(-file.tell() // 32) * 32
        file.truncate(start + matrices * MATRIX_BYTES)
    return path


# Bytes of the directory for each array; a torch archive has one page before each array, in which it must be looked up.
@pytest.mark.parametrize(("write", "each"), [(shards, 200), (gguf_file, 200), (torch_archive, 4500)])
def test_a_hundredth_of_a_gigabyte_is_read_once_and_nothing_else(tmp_path, write, each):
    """Opening reads the directory, planning nothing, applying exactly the arrays that are asked for."""
    path, layers = write(tmp_path), 3
    names = [f"layer{7 * index}" for index in range(layers)]
    child = Path(__file__).with_name("apply_in_child.py")

    done = subprocess.run(
        [sys.executable, child, path, "torch", *names],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    assert used["opening"] < used["arrays"] * each + 128_000  # what modules read when they are first imported
    assert used["planning"] < 64_000
    assert layers * MATRIX_BYTES <= used["applying"] < layers * MATRIX_BYTES + 64_000
    assert used["peak_above_torch"] < 150 * MB
