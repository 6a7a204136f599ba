"""Checkpoints in several files with an index of their own."""

import json

import msgpack
import numpy as np
import pytest
import torch

from regraft.errors import CheckpointError
from regraft.reading import open_checkpoint


@pytest.fixture
def sharded(tmp_path):
    """A folder as Hugging Face's libraries write it."""
    told = {}
    for number, name in enumerate(("first.weight", "second.weight"), 1):
        told[name] = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: torch.full((2,), float(number))}, tmp_path / told[name])
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 16}, "weight_map": told}))
    return index


@pytest.mark.parametrize("what", ["index", "folder"])
def test_the_shards_are_one_checkpoint(sharded, what):
    """Opened by its index, or by the folder that holds nothing else."""
    checkpoint = open_checkpoint(sharded if what == "index" else sharded.parent)

    assert checkpoint.read("first.weight").tolist() == [1, 1]
    assert checkpoint.read("second.weight").tolist() == [2, 2]
    assert (checkpoint.format, len(checkpoint.files)) == ("torch", 3)


def test_names_joined_otherwise_in_the_index_are_found(tmp_path):
    """Flax joins names with slashes."""
    array = np.ones(2, np.float32)
    packed = msgpack.ExtType(1, msgpack.packb(((2,), "float32", array.tobytes())))
    (tmp_path / "a.msgpack").write_bytes(msgpack.packb({"fc": {"kernel": packed}}))
    index = tmp_path / "flax_model.msgpack.index.json"
    index.write_text(json.dumps({"weight_map": {"fc.kernel": "a.msgpack"}}))

    assert list(open_checkpoint(index)) == ["fc/kernel"]


@pytest.mark.parametrize(("weight_map", "told"), [
    ({"first.weight": "../x.bin"}, "refused to open '../x.bin'"),
    ({"first.weight": "pytorch_model.bin.index.json"}, "refused to open 'pytorch_model.bin.index.json'"),
    ({"first.weight": "lost.bin"}, "1 of 1 shards are missing: lost.bin"),
    ({"third": "pytorch_model-00001-of-00002.bin"}, "third is not in pytorch_model-00001-of-00002.bin"),
    ({"first.weight": 3}, "It is no index of shards"), ([], "It is no index of shards"),
])  # fmt: skip
def test_an_index_that_lies_is_refused(sharded, weight_map, told):
    """Files elsewhere, itself, missing ones, arrays that are not there."""
    sharded.write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(sharded)
