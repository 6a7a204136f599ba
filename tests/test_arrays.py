"""Named arrays."""

from pathlib import Path

import numpy as np
import pytest

from regraft.arrays import ArrayInfo, Checkpoint, widen_bfloat16
from regraft.errors import CheckpointError


def checkpoint(announced=(2, 3)):
    """One array of zeros, announced with a shape."""
    infos = {"dense/kernel": ArrayInfo(announced, "float32")}
    return Checkpoint(Path("a.npz"), "npz", None, infos, lambda name: np.zeros((2, 3), np.float32))


def test_a_checkpoint_is_a_mapping_of_what_is_there():
    """Names to shapes and dtypes; values are read one at a time."""
    opened = checkpoint()
    assert (list(opened), len(opened), opened["dense/kernel"].shape) == (["dense/kernel"], 1, (2, 3))
    assert opened.read("dense/kernel").shape == (2, 3)


def test_an_unknown_name_is_answered_with_near_ones():
    """As everywhere."""
    with pytest.raises(CheckpointError, match=r"a.npz: no array named 'dense/kernl'. Did you mean 'dense/kernel'"):
        checkpoint().read("dense/kernl")


def test_a_reader_that_gives_another_shape_is_caught():
    """The plan was made for the announced shape."""
    with pytest.raises(CheckpointError, match=r"announced with shape \(3, 2\) and read with shape \(2, 3\)"):
        checkpoint(announced=(3, 2)).read("dense/kernel")


def test_sizes_are_of_the_stored_form():
    """bfloat16 takes two bytes in the file."""
    info = ArrayInfo((4, 5), "bfloat16")
    assert (info.count, info.size_bytes) == (20, 40)


def test_bfloat16_widens_exactly():
    """Its bits are float32's upper half: 1.0 is 0x3f80, -2.5 is 0xc020."""
    raw = np.array([0x3F80, 0xC020, 0x7F80], np.uint16)
    assert widen_bfloat16(raw).tolist() == [1.0, -2.5, float("inf")]
