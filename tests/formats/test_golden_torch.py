"""Files that torch, safetensors and NumPy wrote, and the network's recorded output."""

import numpy as np
import pytest
import torch
from torch import nn

from golden_files import GOLDEN, golden_arrays
from regraft.reading import open_checkpoint

RECORDED = golden_arrays("torch.npz")
STATE = {name.removeprefix("w/"): array for name, array in RECORDED.items() if name.startswith("w/")}


@pytest.mark.parametrize(
    "file",
    ["torch_archive.pt", "torch_old.pt", "torch_training.ckpt", "torch.safetensors", "shards.safetensors.index.json",
     "numpy.npz", "numpy.pkl"],
)  # fmt: skip
def test_every_form_holds_the_network(file):
    """Bit-identical arrays, whatever lies beside them."""
    checkpoint = open_checkpoint(GOLDEN / file)

    weights = [name for name, info in checkpoint.items() if info.role == "weight"]
    if file == "numpy.pkl":
        got = dict(zip(STATE, (checkpoint.read(name) for name in weights), strict=True))
    else:
        got = {name.replace("/", "."): checkpoint.read(name) for name in weights}
    assert set(got) == set(STATE)
    for name, array in STATE.items():
        np.testing.assert_array_equal(got[name], array, strict=True, err_msg=name)


def test_the_network_gives_the_recorded_output():
    """A torch model filled by hand from the old form."""
    checkpoint = open_checkpoint(GOLDEN / "torch_old.pt")
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4))
    model.load_state_dict({name: torch.from_numpy(checkpoint.read(name)) for name in checkpoint})

    with torch.no_grad():
        y = model.eval()(torch.from_numpy(RECORDED["x"]))

    np.testing.assert_allclose(y.numpy(), RECORDED["y"], rtol=0, atol=1e-6)  # another machine's order of sums


def test_what_lies_beside_the_weights_is_told():
    """Adam's slots and steps, and the moving average."""
    checkpoint = open_checkpoint(GOLDEN / "torch_training.ckpt")

    roles = {}
    for name, info in checkpoint.items():
        roles.setdefault(info.role, set()).add(name.partition(".")[0])
    assert roles["ema"] == {"state_dict_ema"}
    assert roles["optimizer_slot"] == {"optimizer_states"}
    assert roles["counter"] == {"optimizer_states"}
