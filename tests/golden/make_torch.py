"""Write the torch, safetensors and NumPy golden files: `python tests/golden/make_torch.py` with torch and safetensors.

One small network after one step of Adam: as an archive, in the old form, inside a training state like Lightning's with
a moving average, as safetensors in one file and in shards, as `.npz` and as a pickle of a list. `torch.npz` holds the
input `x`, the output `y` and every array under its own name (`w/…`).
"""

import json
import pickle
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = Path(__file__).parent


def main():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4))
    x = torch.randn(2, 2, 5, 7)
    adam = torch.optim.Adam(model.parameters())
    model(x).square().sum().backward()
    adam.step()
    model.eval()
    state = model.state_dict()
    average = {name: value * 0.5 for name, value in state.items()}
    arrays = {name: value.numpy() for name, value in state.items()}
    np.savez_compressed(
        FOLDER / "torch.npz", x=x.numpy(), y=model(x).detach().numpy(), **{f"w/{n}": a for n, a in arrays.items()}
    )
    torch.save(state, FOLDER / "torch_archive.pt")
    torch.save(state, FOLDER / "torch_old.pt", _use_new_zipfile_serialization=False)
    training = {
        "epoch": 1, "global_step": 1, "pytorch-lightning_version": "2.4.0", "callbacks": {}, "lr_schedulers": [],
        "state_dict": state, "optimizer_states": [adam.state_dict()], "state_dict_ema": average,
    }  # fmt: skip
    torch.save(training, FOLDER / "torch_training.ckpt")
    save_file(state, FOLDER / "torch.safetensors", metadata={"format": "pt"})
    names = list(state)
    shards = {"shards-1.safetensors": names[:4], "shards-2.safetensors": names[4:]}
    for file, some in shards.items():
        save_file({name: state[name] for name in some}, FOLDER / file, metadata={"format": "pt"})
    told = {name: file for file, some in shards.items() for name in some}
    (FOLDER / "shards.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": told}, indent=1))
    np.savez(FOLDER / "numpy.npz", **{name.replace(".", "/"): array for name, array in arrays.items()})
    (FOLDER / "numpy.pkl").write_bytes(pickle.dumps(list(arrays.values()), protocol=2))


if __name__ == "__main__":
    main()
