"""Checkpoints are found, recognised by content, and refused with words that help."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from golden_files import GOLDEN
from regraft.errors import CheckpointError
from regraft.formats.numpy_arrays import NumpyArray
from regraft.reading import open_checkpoint
from shared import MNIST, needs_shared
from tables import write_bundle, write_v1

ARRAYS = {"hidden/kernel": np.ones((2, 3), np.float32), "hidden/bias": np.zeros(3, np.float32)}

READABLE = ("tf1_v2", "tf2_object", "npz", "pickle", "torch_state")
MANIFEST = [
    entry
    for entry in (json.loads((MNIST / "MANIFEST.json").read_text())["entries"] if MNIST.is_dir() else [])
    if entry["id"].startswith(READABLE)
]


def test_a_prefix_an_index_a_data_file_and_the_folder_open_the_same(tmp_path):
    """A user may name any of them."""
    prefix = write_bundle(tmp_path / "model.ckpt", ARRAYS)

    for path in (prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001", tmp_path):
        assert set(open_checkpoint(path)) == set(ARRAYS)


def test_a_folder_with_one_checkpoint_opens_it(tmp_path):
    """Files that are none do not disturb."""
    save_file(ARRAYS, tmp_path / "model.safetensors")
    (tmp_path / "README.md").write_text("# A model\n")

    assert open_checkpoint(tmp_path).format == "safetensors"


def test_a_folder_with_two_checkpoints_lists_them(tmp_path):
    """Which one is meant is not guessed."""
    save_file(ARRAYS, tmp_path / "model.safetensors")
    np.savez(tmp_path / "model.npz", **ARRAYS)

    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints: model.npz, model.safetensors"):
        open_checkpoint(tmp_path)


def test_a_folder_without_a_checkpoint_tells_what_it_holds(tmp_path):
    """And which formats are known."""
    (tmp_path / "notes.txt").write_text("nothing\n")

    with pytest.raises(CheckpointError, match=r"without a checkpoint.*It holds: notes.txt(.|\n)*safetensors"):
        open_checkpoint(tmp_path)


def test_a_missing_file_is_answered_with_near_names(tmp_path):
    """The nearest name of the folder comes first."""
    np.savez(tmp_path / "weights.npz", **ARRAYS)

    with pytest.raises(CheckpointError, match=r"weigths.npz does not exist. Looked in .*Did you mean 'weights.npz'"):
        open_checkpoint(tmp_path / "weigths.npz")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"some words", r"no known format; it begins with b'some words'.*(.|\n)*Known formats: .*npz"),
    ],
)
def test_what_is_no_checkpoint_is_told_in_words(tmp_path, content, told):
    """What people take for checkpoints, and what to do instead."""
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(CheckpointError, match=told):
        open_checkpoint(tmp_path / "file")


def test_an_own_reader_is_passed_as_an_object(tmp_path):
    """No registry."""
    np.save(tmp_path / "a.npy", ARRAYS["hidden/bias"])

    assert list(open_checkpoint(tmp_path / "a.npy", formats=[NumpyArray()])) == ["a"]


def test_two_readers_that_both_recognise_a_file_are_named(tmp_path):
    """Nobody guesses which one is right."""
    np.save(tmp_path / "a.npy", ARRAYS["hidden/bias"])

    with pytest.raises(CheckpointError, match="2 formats: npy, npy"):
        open_checkpoint(tmp_path / "a.npy", formats=[NumpyArray(), NumpyArray()])


@needs_shared
@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["id"])
def test_forms_of_one_network_have_the_shapes_of_the_manifest(entry):
    """Every number array that the source framework lists, and nothing else."""
    checkpoint = open_checkpoint(MNIST / entry["load_path"])

    listed = [tuple(variable["shape"]) for variable in entry["variables"] if variable["dtype"] != "string"]
    assert sorted(info.shape for info in checkpoint.values()) == sorted(listed)


GOLDEN_FILES = [
    "caffe.caffemodel", "flax_types.msgpack", "float32.tflite", "keras3_image.h5", "keras3_image.keras",
    "keras3_objects", "mxnet-0012.params", "numpy.pkl", "torch_external.onnx", "torch_folded.onnx", "tf1_v1.ckpt",
    "torch.safetensors", "shards.safetensors.index.json", "torch_archive.pt", "torch_old.pt",
]  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_a_file_that_is_edited_in_place_after_opening_is_noticed(tmp_path, name):
    """In every format, of every file of a checkpoint, with the same size and the old time put back."""
    for path in GOLDEN.iterdir():
        if path.is_file() and path.name.startswith(name.split(".")[0].split("-")[0]):
            shutil.copy(path, tmp_path / path.name)
    checkpoint = open_checkpoint(tmp_path / name)
    first = next(iter(checkpoint))
    checkpoint.read(first)
    last = checkpoint.files[-1]
    status, content = last.stat(), bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    while last.stat().st_ctime_ns == status.st_ctime_ns:  # file systems count time in steps of some milliseconds
        last.write_bytes(content)
    os.utime(last, ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(CheckpointError, match="was changed after it was opened"):
        checkpoint.read(first)
    with pytest.raises(CheckpointError, match=f"was changed after it was opened .*{re.escape(last.name)}"):
        checkpoint.refuse_changes()


def test_a_prefix_that_stands_for_two_checkpoints_names_the_way_out(tmp_path):
    """TF1 wrote both forms beside each other, and their values need not agree."""
    write_v1(tmp_path / "model.ckpt", ARRAYS)
    write_bundle(tmp_path / "model.ckpt", ARRAYS)

    with pytest.raises(CheckpointError, match=r"2 formats: tensorflow-v2, tensorflow-v1(.|\n)*open model\.ckpt\.index"):
        open_checkpoint(tmp_path / "model.ckpt")
    assert open_checkpoint(tmp_path / "model.ckpt.index").format == "tensorflow-v2"
