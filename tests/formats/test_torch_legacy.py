"""Torch files that are no archives."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch

from regraft.errors import CheckpointError
from regraft.formats.torch_legacy import MAGIC, TorchLegacy
from regraft.reading import open_checkpoint


def save(path, saved):
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    return path


def test_views_of_one_storage_are_read_by_their_strides(tmp_path):
    """A transposed view and a part of one storage."""
    whole = torch.arange(12.0).reshape(3, 4)
    path = save(tmp_path / "m.pt", {"whole": whole, "turned": whole.t(), "part": whole[1, 1:3]})

    checkpoint = open_checkpoint(path)

    np.testing.assert_array_equal(checkpoint.read("turned"), whole.t().numpy())
    np.testing.assert_array_equal(checkpoint.read("part"), [5, 6])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool])
def test_every_dtype_is_read(tmp_path, dtype):
    """bfloat16 comes widened."""
    tensor = torch.tensor([0, 1, 1, 0]).to(dtype)
    checkpoint = open_checkpoint(save(tmp_path / "m.pt", {"w": tensor}))

    expected = tensor.float().numpy() if dtype == torch.bfloat16 else tensor.numpy()
    np.testing.assert_array_equal(checkpoint.read("w"), expected, strict=True)


def test_a_training_state_gives_the_model_and_sets_the_rest_aside(tmp_path):
    """Lightning's and everyone's nested dictionaries, with an optimiser that torch itself filled."""
    layer = torch.nn.Linear(2, 1)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    path = save(tmp_path / "m.pt", {"model": layer.state_dict(), "optimizer": adam.state_dict(), "epoch": 3})

    checkpoint = open_checkpoint(path)

    assert [name for name, info in checkpoint.items() if info.role == "weight"] == ["weight", "bias"]
    assert all(name.startswith("optimizer.") for name, info in checkpoint.items() if info.role != "weight")


def test_a_command_in_the_pickle_is_refused_and_not_run(tmp_path):
    """os.system by its name."""

    class Command:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    head = b"".join(
        pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, Command())
    )
    (tmp_path / "m.pt").write_bytes(head + pickle.dumps([], 2))

    with pytest.raises(CheckpointError, match=r"refused.*posix\.system"):
        TorchLegacy().open(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


def test_another_byte_order_and_protocol_are_refused(tmp_path):
    """By name."""
    for number, (parts, told) in enumerate([
        ((0x1950A86A20F9469CFC6C, 1001, {"little_endian": False}), "big-endian"),
        ((0x1950A86A20F9469CFC6C, 1000, {"little_endian": True}), "protocol 1000, expected 1001"),
    ]):  # fmt: skip
        path = tmp_path / f"{number}.pt"
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (*parts, {}, [])))
        assert path.read_bytes()[2:14] == MAGIC
        with pytest.raises(CheckpointError, match=told):
            TorchLegacy().open(path)


def test_the_tar_form_is_refused_by_name(tmp_path):
    """Torch 0.1's; another tar archive is answered as before."""
    for member, told in (("sys_info", r"tar form of torch 0\.1"), ("photo.jpg", "is a tar archive")):
        with tarfile.open(tmp_path / "m.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo(member), io.BytesIO())
        with pytest.raises(CheckpointError, match=told):
            open_checkpoint(tmp_path / "m.tar")
