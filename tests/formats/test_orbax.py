"""Orbax checkpoints of every generation, against what was in memory when they were written."""

import json
import os
import shutil

import msgpack
import numpy as np
import pytest

from golden_files import GOLDEN, golden_arrays
from regraft.errors import CheckpointError
from regraft.formats.orbax import Orbax
from written import write_zarr

GENERATIONS = ["orbax_folders", "orbax_folders_zarr3", "orbax_store", "orbax_store_zarr3"]
KERNEL = np.linspace(-2, 3, 12, dtype="f").reshape(4, 3)


@pytest.mark.parametrize("name", GENERATIONS)
def test_every_array_has_the_value_that_was_saved(name):
    """Whatever Zarr it is, in folders or in one store; keys that are numbers or hold a dot."""
    expected = {key[2:]: array for key, array in golden_arrays("orbax.npz").items()}

    checkpoint = Orbax().open(GOLDEN / name)

    assert set(checkpoint) == {*expected, "step"}
    for key, array in expected.items():
        np.testing.assert_array_equal(checkpoint.read(key), array, strict=True, err_msg=key)
    assert checkpoint["params/Dense_0/bias"].dtype == "bfloat16"
    assert checkpoint["opt_state/0/mu/Dense_0/kernel"].role == "optimizer_slot"
    assert (checkpoint["step"].role, checkpoint.read("step").item()) == ("counter", 7)


def test_a_step_of_the_manager_is_opened_and_several_are_listed(tmp_path):
    """The only item needs no name of its own; which step is the user's choice."""
    for path in (GOLDEN / "orbax_manager" / "3", GOLDEN / "orbax_manager"):
        checkpoint = Orbax().open(path)
        np.testing.assert_array_equal(
            checkpoint.read("Dense_0/kernel"), golden_arrays("orbax.npz")["w/params/Dense_0/kernel"]
        )

    for step in ("3", "20"):
        shutil.copytree(GOLDEN / "orbax_manager" / "3", tmp_path / step)
    assert Orbax().recognises(tmp_path, b"")
    with pytest.raises(CheckpointError, match=r"holds 2 steps: 3, 20\. Open one of them"):
        Orbax().open(tmp_path)


def test_t5x_names_are_split_and_the_state_is_set_apart(tmp_path):
    """Folders named by keys with dots, a msgpack file with the rest: places of arrays, and small arrays."""
    write_zarr(tmp_path, "target.encoder.layer_0.kernel", KERNEL, chunk=(3, 2), compressor="gzip")
    write_zarr(tmp_path, "state.param_states.encoder.layer_0.kernel.v", KERNEL + 1, compressor="gzip")
    step = msgpack.ExtType(1, msgpack.packb(((), "int32", np.int32(5).tobytes()), use_bin_type=True))
    place = {"driver": "zarr", "kvstore": {"driver": "file", "path": "target.encoder.layer_0.kernel"}, "metadata": {}}
    tree = {"version": 3, "optimizer": {"target": {"encoder": {"layer_0": {"kernel": place}}}}, "state": {"step": step}}
    (tmp_path / "checkpoint").write_bytes(msgpack.packb(tree))

    checkpoint = Orbax().open(tmp_path)

    assert {name: info.role for name, info in checkpoint.items()} == {
        "state/step": "counter", "target/encoder/layer_0/kernel": "weight",
        "state/param_states/encoder/layer_0/kernel/v": "optimizer_slot",
    }  # fmt: skip
    np.testing.assert_array_equal(checkpoint.read("target/encoder/layer_0/kernel"), KERNEL, strict=True)
    assert checkpoint.read("state/step") == 5


def test_arrays_that_are_listed_and_not_stored_are_told(tmp_path):
    """A copy that was broken off."""
    shutil.copytree(GOLDEN / "orbax_folders", tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "params.Dense_0.kernel")

    with pytest.raises(CheckpointError, match=r"1 of 8 arrays are listed and not stored: params\.Dense_0\.kernel"):
        Orbax().open(tmp_path / "a")


def test_chunks_that_are_missing_are_told_or_noted(tmp_path):
    """Newer files say that all are written; older ones leave chunks of zeros out."""
    home = write_zarr(tmp_path, "a.kernel", KERNEL, chunk=(2, 3))
    (home / "1.0").unlink()

    checkpoint = Orbax().open(tmp_path)

    assert any("a/kernel: chunks that are not stored are zeros" in note for note in checkpoint.notes)
    np.testing.assert_array_equal(checkpoint.read("a/kernel"), np.concatenate([KERNEL[:2], np.zeros((2, 3), "f")]))
    (tmp_path / "_METADATA").write_text(json.dumps({"store_array_data_equal_to_fill_value": True}))
    with pytest.raises(CheckpointError, match="1 chunks of a/kernel are missing"):
        Orbax().open(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"tree_metadata": 5}', '{"tree_metadata": {"a": {}}}', "[" * 100_000])
def test_a_damaged_description_is_refused(tmp_path, content):
    """Whatever JSON it is."""
    write_zarr(tmp_path, "a.kernel", KERNEL)
    (tmp_path / "_METADATA").write_text(content)

    with pytest.raises(CheckpointError, match=r"_METADATA: the (description is damaged|file is not)"):
        Orbax().open(tmp_path)


def test_links_are_not_followed(tmp_path):
    """They may lead anywhere."""
    home = write_zarr(tmp_path, "a.kernel", KERNEL)
    (home / "0.0").unlink()
    os.symlink("/etc/passwd", home / "0.0")

    with pytest.raises(CheckpointError, match=r"refused to follow the link 0\.0"):
        Orbax().open(tmp_path)
