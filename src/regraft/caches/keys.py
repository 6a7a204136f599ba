"""The key of features: a hash of all that they depend on beside the examples."""

from typing import Any

import torch

from regraft.caches.options import Options
from regraft.caches.running import device_of
from regraft.splitting import FeatureComputer
from regraft.tensors.fingerprints import hash_description, hash_tensors

LAYOUT = 4  # of the entry's folder; a change makes new entries


def key_of(manifest: dict[str, Any]) -> str:
    """The key: the name of the entry that holds features of this manifest."""
    return hash_description(manifest)[:32]


def manifest_of(trunk: FeatureComputer, options: Options) -> dict[str, Any]:
    """All that features depend on beside the examples, as plain data; its hash is the key."""
    return {
        "layout": LAYOUT,
        "trunk": trunk.describe(),
        "frozen": hash_tensors(trunk.frozen_tensors()),
        "cut": [[leaf.name, leaf.sizes, str(leaf.dtype)] for leaf in trunk.cut.leaves],
        "batch_size": options.batch_size,
        "precision": options.precision,
        "compute": options.engine.compute,
        "modes": modes(device_of(trunk)),
    }


def modes(device: torch.device) -> dict[str, Any]:
    """The switches of torch that change results, and its version."""
    return {
        "torch": str(torch.__version__),
        "device": device.type,
        "autocast": str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else "",
        "float32": float32_precision(device),
        "default_dtype": str(torch.get_default_dtype()),
    }


def float32_precision(device: torch.device) -> dict[str, str]:
    """The precision of torch's float32 arithmetic on a device, by kind of operation: "ieee", "tf32" or "bf16".

    Each `fp32_precision` includes the general switch (`torch.backends.fp32_precision`) and what the older ones set
    (`set_float32_matmul_precision`, `allow_tf32`). The older ones themselves are not read: torch raises where they
    cannot express what was set.
    """
    backends: Any = torch.backends  # mypy does not see the attributes of its modules
    switches = (
        {"matmul": backends.cuda.matmul, "conv": backends.cudnn.conv, "rnn": backends.cudnn.rnn}
        if device.type == "cuda"
        else {"matmul": backends.mkldnn.matmul, "conv": backends.mkldnn.conv, "rnn": backends.mkldnn.rnn}
    )
    values = {kind: str(switch.fp32_precision) for kind, switch in switches.items()}
    return {kind: "ieee" if value == "none" else value for kind, value in values.items()}  # "none": nothing is lowered
