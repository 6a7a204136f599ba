"""Archives of torch that are a part of a file."""

import os
import zipfile

import numpy as np
import pytest
import torch

from regraft.containers.spans import Span
from regraft.errors import CheckpointError
from regraft.formats.torch_archive import TorchArchive, TorchZip
from regraft.reading import open_checkpoint

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.uint16, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def save(path, saved):
    torch.save(saved, path)
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read(tmp_path, dtype):
    """What NumPy lacks is widened."""
    tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)

    got = open_checkpoint(save(tmp_path / "m.pt", {"w": tensor})).read("w")

    widened = dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    np.testing.assert_array_equal(got, (tensor.float() if widened else tensor).numpy(), strict=True)


def test_views_are_read_by_their_strides_and_ties_twice(tmp_path):
    """Transposed, a part, a scalar, empty, and one tensor under two names."""
    whole = torch.arange(24.0).reshape(2, 3, 4)
    saved = {"whole": whole, "turned": whole.permute(2, 0, 1), "part": whole[1, :, 2], "tie": whole,
             "one": whole[1, 2, 3], "empty": whole[:0]}  # fmt: skip

    checkpoint = open_checkpoint(save(tmp_path / "m.pt", saved))

    for name, tensor in saved.items():
        np.testing.assert_array_equal(checkpoint.read(name), tensor.numpy(), strict=True, err_msg=name)


def test_a_lightning_checkpoint_gives_the_model(tmp_path):
    """The optimiser, its counters and everything else are set aside."""
    layer = torch.nn.Linear(2, 1)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    saved = {
        "epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.4.0", "callbacks": {}, "loops": {"a": [1, 2]},
        "state_dict": {f"model.{name}": value for name, value in layer.state_dict().items()},
        "optimizer_states": [adam.state_dict()], "lr_schedulers": [], "hparams_name": "kwargs",
    }  # fmt: skip

    checkpoint = open_checkpoint(save(tmp_path / "m.ckpt", saved))

    assert [name for name, info in checkpoint.items() if info.role == "weight"] == ["model.weight", "model.bias"]
    np.testing.assert_array_equal(checkpoint.read("model.weight"), layer.weight.detach().numpy())
    assert "under 'state_dict'" in checkpoint.notes[0]


def test_parameters_and_buffers_saved_by_hand_are_read(tmp_path):
    """nn.Parameter objects, NumPy arrays and tensors with attributes."""
    tensor = torch.ones(2)
    tensor.note = "kept"
    saved = {"p": torch.nn.Parameter(torch.ones(3)), "n": np.arange(2000.0), "t": tensor}

    checkpoint = open_checkpoint(save(tmp_path / "m.pt", saved))

    np.testing.assert_array_equal(checkpoint.read("p"), np.ones(3, np.float32))
    np.testing.assert_array_equal(checkpoint.read("n"), np.arange(2000.0))
    np.testing.assert_array_equal(checkpoint.read("t"), np.ones(2, np.float32))


def test_a_command_in_the_pickle_is_refused_and_not_run(tmp_path):
    """os.system by its name."""

    class Command:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    with pytest.raises(CheckpointError, match=r"refused.*posix\.system"):
        open_checkpoint(save(tmp_path / "m.pt", {"w": torch.ones(1), "x": Command()}))
    assert not (tmp_path / "ran").exists()


class Kept(torch.nn.Module):
    """A module of the user's own, with what a state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)])
        self.register_buffer("grid", torch.arange(4), persistent=False)
        self.scale = torch.nn.Parameter(torch.full((3,), 2.0))
        self.shortcut = torch.ones(5)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a dictionary"])
def test_a_whole_model_is_read_without_making_it(tmp_path, is_zip, wrapped):
    """Names and order are its state dict's; no class of it is imported."""
    model = Kept()
    torch.save(
        {"model": model, "epoch": 3} if wrapped else model, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip
    )

    checkpoint = open_checkpoint(tmp_path / "m.pt")

    assert list(checkpoint) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(checkpoint.read(name), tensor.numpy(), strict=True)
    assert "Objects of 4 classes were not made" in checkpoint.notes[0]
    assert "Kept" in checkpoint.notes[0]


def test_arrays_of_a_dictionary_s_own_kind_are_found(tmp_path):
    """Configurations of many libraries are subclasses of dict; what lies in one must not vanish."""
    path = save(tmp_path / "m.pt", {"state": OwnDict(w=torch.ones(2)), "list": OwnList([torch.zeros(3)])})

    assert {name: info.shape for name, info in open_checkpoint(path).items()} == {"state.w": (2,), "list.0": (3,)}


class OwnDict(dict):
    """As EasyDict and its like."""


class OwnList(list):
    """The same for lists."""


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("trace", [False, True], ids=["script", "trace"])
def test_the_weights_of_a_program_are_read_and_nothing_of_it_is_run(tmp_path, trace):
    """TorchScript: the names are those of its state dict."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).eval()
    program = torch.jit.trace(model, torch.zeros(1, 2)) if trace else torch.jit.script(model)
    program.save(tmp_path / "m.pt")

    checkpoint = open_checkpoint(tmp_path / "m.pt")

    assert set(checkpoint) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(checkpoint.read(name), tensor.numpy(), strict=True)
    assert "TorchScript program: its weights are read, and nothing of it is executed" in checkpoint.notes[0]


def test_storages_that_do_not_fit_are_refused(tmp_path):
    """A tensor that reaches beyond, a storage of another size."""
    path = save(tmp_path / "m.pt", {"w": torch.ones(4)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for change, told in (
        ({"m/data/0": bytes(12)}, "storage 0 has 12 bytes, expected 16 bytes"),
        ({"m/data/0": None}, "storage 0 is missing"),
        (
            {"m/data.pkl": members["m/data.pkl"].replace(b"K\x04\x85", b"K\x09\x85")},
            "tensor w .* does not fit",
        ),
    ):
        with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
            for name, content in (members | change).items():
                if content is not None:
                    archive.writestr(name, content)
        with pytest.raises(CheckpointError, match=told):
            TorchZip().open(tmp_path / "bad.pt")


def test_big_endian_archives_are_read(tmp_path):
    """As torch on such a machine writes them."""
    path = save(tmp_path / "m.pt", {"w": torch.tensor([1.0, 2.0])})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {"m/byteorder": b"big", "m/data/0": np.array([1, 2], ">f4").tobytes()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    assert open_checkpoint(path).read("w").tolist() == [1.0, 2.0]


def test_a_file_without_tensors_says_what_it_holds(tmp_path):
    """Keys and kind."""
    with pytest.raises(CheckpointError, match="holds no tensors: a dictionary with the keys epoch"):
        open_checkpoint(save(tmp_path / "m.pt", {"epoch": 3}))


def test_an_archive_inside_of_a_file_is_read_from_its_place(tmp_path):
    """As chunks of a distributed checkpoint lie in one file."""
    torch.save(torch.arange(5.0)[1:4], tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "many").write_bytes(b"before" + content + b"behind")

    archive = TorchArchive(tmp_path / "many", Span(tmp_path / "many", 6, len(content)))

    np.testing.assert_array_equal(archive.read_tensor(archive.saved, "x"), [1, 2, 3])
