"""What torch's pickles say of a tensor, checked before it is believed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from regraft.containers.pickle_objects import Name
from regraft.errors import CheckpointError
from regraft.formats.torch_pickle import PickledTensor, Storage, storage_of
from regraft.reading import open_checkpoint

STORAGE = Storage("0", "float32", 12)


def tensor(offset, shape, strides):
    return PickledTensor(STORAGE, "float32", offset, shape, strides)


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "reach"),
    [(0, (3, 4), (4, 1), (0, 12)), (1, (2,), (5,), (1, 6)), (3, (), (), (3, 1)), (2, (0, 4), (4, 1), (2, 0))],
)
def test_the_reach_is_the_part_of_the_storage_that_is_needed(offset, shape, strides, reach):
    """First element and count."""
    told = tensor(offset, shape, strides)
    told.check(path=Path("m.pt"), name="w")

    assert told.reach() == reach


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (11, (2,), (1,)),
        (0, (2,), (12,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (1 << 40,), (0,)),  # an expanded tensor would become a terabyte
        (0, (2, 2), (1,)),
        (0, (True,), (1,)),
        (0, ("2",), (1,)),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(offset, shape, strides):
    """Also those that claim more numbers than there are."""
    with pytest.raises(CheckpointError, match=r"tensor w .* does not fit its storage of 12 numbers"):
        tensor(offset, shape, strides).check(path=Path("m.pt"), name="w")


def test_values_follow_the_strides():
    """A transposed view of the bytes."""
    content = bytearray(np.arange(6, dtype="<f4").tobytes())

    got = tensor(0, (3, 2), (1, 3)).values(content, order="<")

    np.testing.assert_array_equal(got, np.arange(6, dtype=np.float32).reshape(2, 3).T)


def test_a_storage_is_told_by_its_class():
    """FloatStorage is float32."""
    assert storage_of(("storage", Name("torch.FloatStorage"), "0", "cuda:0", 12)) == STORAGE
    for wrong in (("module", 1, 2, 3, 4), ("storage", Name("torch.OddStorage"), "0", "cpu", 1),
                  ("storage", Name("torch.FloatStorage"), "0", "cpu", -1)):  # fmt: skip
        with pytest.raises(TypeError, match="storage"):
            storage_of(wrong)


@pytest.mark.filterwarnings("ignore:.*uantiz:UserWarning", "ignore:.*uantiz:DeprecationWarning")
def test_quantised_tensors_are_read_as_torch_dequantises_them(tmp_path):
    """One scale, and one for each row; the integers alone would be another network."""
    weight = torch.randn(4, 3)
    scales, zeros = torch.rand(4) + 0.1, torch.tensor([0, 1, -2, 3])
    state = {
        "whole": torch.quantize_per_tensor(weight, 0.05, 3, torch.qint8),
        "rows": torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8),
    }
    torch.save(state, tmp_path / "m.pt")

    checkpoint = open_checkpoint(tmp_path / "m.pt")

    for name, tensor in state.items():
        np.testing.assert_array_equal(checkpoint.read(name), tensor.dequantize().numpy(), strict=True)
    assert checkpoint["whole"].note == "dequantised from int8, one scale"
    assert checkpoint["rows"].note == "dequantised from int8, 4 scales along axis 0"


def test_an_expanded_tensor_is_read_unless_it_would_outgrow_its_file(tmp_path):
    """A stride of 0 repeats numbers; of one number a terabyte could be made."""
    torch.save({"row": torch.arange(3.0).reshape(3, 1).expand(3, 4)}, tmp_path / "m.pt")
    torch.save({"bomb": torch.zeros(1).expand(1 << 38)}, tmp_path / "bomb.pt")

    np.testing.assert_array_equal(open_checkpoint(tmp_path / "m.pt").read("row"), [[0] * 4, [1] * 4, [2] * 4])
    with pytest.raises(CheckpointError, match="or the tensor was expanded"):
        open_checkpoint(tmp_path / "bomb.pt")


def test_a_view_that_torch_negates_when_it_reads_is_refused(tmp_path):
    """The file holds the other sign, and a flag."""
    torch.save({"w": torch.imag(torch.ones(3, dtype=torch.complex64).conj())}, tmp_path / "a.pt")

    with pytest.raises(CheckpointError, match="resolve_neg"):
        open_checkpoint(tmp_path / "a.pt")
