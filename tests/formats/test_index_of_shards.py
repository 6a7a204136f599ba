"""Checkpoints in several files with an index of their own."""

import json

import msgpack
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

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
    ({"first.weight": "lost.bin"}, "1 of 1 shard is missing: lost.bin"),
    ({"third": "pytorch_model-00001-of-00002.bin"}, r"1 array is not in .*: third \(not in pytorch_model-00001"),
    ({"first.weight": 3}, "It is not an index of shards"), ([], "It is not an index of shards"),
])  # fmt: skip
def test_an_index_that_lies_is_refused(sharded, weight_map, told):
    """Files elsewhere, itself, missing ones, arrays that are not there."""
    sharded.write_text(json.dumps({"weight_map": weight_map}))

    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(sharded)


def test_shards_of_safetensors_are_found_in_a_folder_of_many_forms(tmp_path, sharded):
    """Hugging Face's folders hold the same weights in several forms: the safer one is opened."""
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.int64)
    save_file({"a": a}, tmp_path / "m-1.safetensors", metadata={"format": "pt"})
    save_file({"b": b}, tmp_path / "m-2.safetensors", metadata={"format": "pt"})
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"b": "m-2.safetensors", "a": "m-1.safetensors"}}))

    for path in (index, tmp_path):
        checkpoint = open_checkpoint(path)
        assert (list(checkpoint), checkpoint.format, checkpoint.layout) == (["b", "a"], "safetensors", "torch")
        np.testing.assert_array_equal(checkpoint.read("a"), a, strict=True)
    assert len(checkpoint.files) == 3

    (tmp_path / "n.safetensors.index.json").write_text(index.read_text())
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints: m\.safetensors\.index\.json, n\.safetensors"):
        open_checkpoint(tmp_path)


def test_shards_of_different_writers_have_no_layout(tmp_path):
    """Which axis orders hold is then asked for, not taken from the first shard."""
    for name, writer in (("a", "pt"), ("b", "flax")):
        save_file({name: np.ones(1, np.float32)}, tmp_path / f"{name}.safetensors", metadata={"format": writer})
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))

    assert open_checkpoint(index).layout is None
