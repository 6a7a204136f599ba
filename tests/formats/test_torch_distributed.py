"""Folders of torch.distributed.checkpoint."""

import pickle

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

from regraft.errors import CheckpointError
from regraft.formats.torch_distributed import TorchDistributed
from regraft.reading import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed:UserWarning", "ignore:TypedStorage:UserWarning")


def saved(folder, state):
    dcp.save(state, checkpoint_id=folder / "step-1")
    return folder / "step-1"


def test_tensors_are_read_under_their_whole_names(tmp_path):
    """Beside an optimiser's state, numbers and texts; bfloat16 is widened."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).bfloat16()
    slots = {"state": {"0.weight": {"exp_avg": torch.ones(2, 3)}}, "lr": 0.1}

    checkpoint = open_checkpoint(saved(tmp_path, {"model": model.state_dict(), "optim": slots, "step": 7}))

    assert checkpoint.format == "torch-distributed"
    assert {name for name, info in checkpoint.items() if info.role == "weight"} == {
        f"model.{name}" for name in model.state_dict()
    }
    for name, tensor in model.state_dict().items():
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(checkpoint.read(f"model.{name}"), expected.numpy(), strict=True)
    assert checkpoint["optim.state.0.weight.exp_avg"].role == "optimizer_slot"


def in_two_chunks(path, change=lambda metadata: None):
    """The folder's matrix w as two processes write it: a half in a file of each."""
    with (path / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    halves = torch.arange(6.0).reshape(2, 3).split(1)
    chunks = [ChunkStorageMetadata(torch.Size((row, 0)), torch.Size((1, 3))) for row in (0, 1)]
    metadata.state_dict_metadata["w"].chunks = chunks
    metadata.storage_data = {}
    for number, half in enumerate(halves):
        file = path / f"__{number}_0.distcp"
        torch.save(half.clone(), file)
        file.write_bytes(b"other" * number + file.read_bytes())
        index = MetadataIndex("w", torch.Size((number, 0)))
        metadata.storage_data[index] = _StorageInfo(file.name, 5 * number, file.stat().st_size - 5 * number)
    change(metadata)
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    return path


def test_chunks_of_several_processes_are_put_together(tmp_path):
    """As FSDP writes them; a chunk may lie anywhere in its file."""
    path = in_two_chunks(saved(tmp_path, {"w": torch.zeros(2, 3)}))

    checkpoint = open_checkpoint(path)

    np.testing.assert_array_equal(checkpoint.read("w"), np.arange(6, dtype="f").reshape(2, 3), strict=True)
    assert [file.name for file in checkpoint.files] == [".metadata", "__0_0.distcp", "__1_0.distcp"]


def set_place(metadata, **change):
    info = next(iter(metadata.storage_data.values()))
    for name, value in change.items():
        object.__setattr__(info, name, value)


@pytest.mark.parametrize(("change", "told"), [
    (lambda told: set_place(told, relative_path="../w.distcp"), "lies beside the description"),
    (lambda told: set_place(told, relative_path="lost.distcp"), "1 files of chunks are missing: lost.distcp"),
    (lambda told: set_place(told, length=1 << 40), "a chunk of w is missing or lies outside"),
    (lambda told: set_place(told, offset=-1), "a chunk of w is missing or lies outside"),
    (lambda told: told.state_dict_metadata["w"].chunks.pop(), "hold 3 of 6 numbers"),
    (lambda told: setattr(told.state_dict_metadata["w"], "size", torch.Size((1 << 40, 3))), "numbers"),
    (lambda told: told.state_dict_metadata.update(w=3), "description is damaged"),
])  # fmt: skip
def test_descriptions_that_lie_are_refused(tmp_path, change, told):
    """Files elsewhere or missing, chunks outside, gaps, and sizes that nothing fills."""
    path = in_two_chunks(saved(tmp_path, {"w": torch.zeros(2, 3)}), change)

    with pytest.raises(CheckpointError, match=told):
        TorchDistributed().open(path)


def test_a_chunk_that_is_another_tensor_is_refused(tmp_path):
    """Its own file tells its shape too."""
    path = in_two_chunks(saved(tmp_path, {"w": torch.zeros(2, 3)}))
    torch.save(torch.zeros(3, 1), path / "other.distcp")
    change = {"relative_path": "other.distcp", "length": (path / "other.distcp").stat().st_size}
    in_two_chunks(path, lambda told: set_place(told, **change))

    with pytest.raises(CheckpointError, match=r"w should be float32 of shape \(1, 3\) here, and is another object"):
        TorchDistributed().open(path).read("w")


def test_a_description_that_runs_code_is_refused(tmp_path):
    """It is a pickle."""
    path = saved(tmp_path, {"w": torch.zeros(2, 3)})
    (path / ".metadata").write_bytes(b"cos\nsystem\n(S'true'\ntR.")

    with pytest.raises(CheckpointError, match=r"refused, because the pickle asks to run code of its own: os\.system"):
        TorchDistributed().open(path)
