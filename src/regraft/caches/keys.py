"""How a trunk is run, and the manifest of what it gives: all that features depend on beside the example."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from regraft.caches.ragged import OwnShapes, ragged_leaves
from regraft.examples import Inputs, call
from regraft.splitting import FeatureExtractor
from regraft.tensors.fingerprints import hash_description, hash_tensors
from regraft.tensors.trees import map_tree

LAYOUT = 3  # of the entry's folder; a change makes new entries
CANARIES = 4


@final
@dataclass(frozen=True)
class Engine:
    """How the trunk is run.

    compute   "float32" runs the trunk as it is; "bfloat16" or "float16" under torch's autocast, which is faster on
              processors made for it and less exact: part of the key
    workers   threads that fetch examples; None chooses
    canaries  rows of the store that are computed again before it is trusted
    """

    compute: str = "float32"
    workers: int | None = None
    canaries: int = CANARIES


def key_of(manifest: dict[str, Any]) -> str:
    """The key: the name of the entry that holds features of this manifest."""
    return hash_description(manifest)[:32]


def manifest_of(trunk: FeatureExtractor, *, batch_size: int, precision: str, engine: Engine) -> dict[str, Any]:
    """Everything that features depend on beside the example itself, as plain data; its hash is the key."""
    leaves = [[leaf.name, leaf.sizes, str(leaf.dtype)] for leaf in trunk.cut.leaves]
    return {
        "layout": LAYOUT,
        "trunk": trunk.describe(),
        "frozen": hash_tensors(trunk.frozen_tensors()),
        "cut": leaves,
        "batch_size": batch_size,
        "precision": precision,
        "compute": engine.compute,
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


def device_of(trunk: FeatureExtractor) -> torch.device:
    """Where the trunk's tensors are; the CPU when it has none."""
    return next((tensor.device for tensor in trunk.frozen_tensors().values()), torch.device("cpu"))


def own_shapes(trunk: FeatureExtractor) -> OwnShapes:
    """What takes a leaf's rows out of a batch that was filled up to its longest example."""
    return OwnShapes(trunk.row_shapes, ragged_leaves(trunk.cut.leaves))


def runner(trunk: FeatureExtractor, compute: str) -> Callable[[Inputs], dict[str, Tensor]]:
    """The trunk as it is called: on its device, without gradients, in a dtype, as the cut's dtypes."""
    device, leaves = device_of(trunk), trunk.cut.leaves

    def run(inputs: Inputs) -> dict[str, Tensor]:
        mode = nullcontext() if compute == "float32" else torch.autocast(device.type, getattr(torch, compute))
        with torch.no_grad(), mode:
            outputs = call(trunk, map_tree(lambda tensor: tensor.to(device, non_blocking=True), inputs))
        if compute == "float32":
            return outputs
        wanted = {leaf.name: leaf.dtype for leaf in leaves}
        return {name: rows.to(wanted.get(name, rows.dtype)) for name, rows in outputs.items()}

    return run
