"""What people save beside the weights, and which wrapper is dropped."""

import numpy as np
import pytest
import torch

from regraft.errors import CheckpointError
from regraft.reading import open_checkpoint

STATE = {"conv.weight": torch.ones(2), "conv.bias": torch.zeros(2)}


def opened(folder, saved):
    torch.save(saved, folder / "m.pt")
    return open_checkpoint(folder / "m.pt")


@pytest.mark.parametrize("keys", [("state_dict",), ("model",), ("net", "weights")])
def test_a_single_wrapper_is_dropped_with_a_note(tmp_path, keys):
    """However deep."""
    saved = STATE
    for key in reversed(keys):
        saved = {key: saved, "epoch": 3}

    checkpoint = opened(tmp_path, saved)

    assert list(checkpoint) == list(STATE)
    assert repr(".".join(keys)) in checkpoint.notes[0]


def test_a_moving_average_beside_the_weights_is_set_aside(tmp_path):
    """And keeps its container's name."""
    checkpoint = opened(tmp_path, {"model": STATE, "model_ema": dict(STATE)})

    roles = {name: info.role for name, info in checkpoint.items()}
    assert roles == {
        "conv.weight": "weight", "conv.bias": "weight", "model_ema.conv.weight": "ema", "model_ema.conv.bias": "ema",
    }  # fmt: skip


def test_a_moving_average_alone_is_the_model(tmp_path):
    """The only copy is not set aside."""
    checkpoint = opened(tmp_path, {"ema": STATE, "epoch": 3})

    assert {name: info.role for name, info in checkpoint.items()} == dict.fromkeys(STATE, "weight")


def test_two_networks_keep_their_names(tmp_path):
    """Generator and discriminator share no wrapper."""
    checkpoint = opened(tmp_path, {"g": STATE, "d": dict(STATE)})

    assert list(checkpoint) == ["g.conv.weight", "g.conv.bias", "d.conv.weight", "d.conv.bias"]


def test_names_that_collide_are_refused(tmp_path):
    """A key with a dot and a nested one."""
    with pytest.raises(CheckpointError, match=r"two arrays are named a\.b"):
        opened(tmp_path, {"a.b": torch.ones(1), "a": {"b": torch.ones(1)}})


def test_a_lone_tensor_is_named_by_its_file(tmp_path):
    """There is nothing else."""
    assert list(opened(tmp_path, torch.ones(2))) == ["m"]


def test_texts_among_the_arrays_are_left_out_with_a_note(tmp_path):
    """NumPy's texts beside tensors: the names of the classes, say."""
    checkpoint = opened(tmp_path, {"w": torch.ones(2), "classes": np.array(["a", "b"])})

    assert list(checkpoint) == ["w"]
    assert checkpoint.notes == ("1 array holds no numbers and is left out: classes.",)
