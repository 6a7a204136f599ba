"""Checkpoints that lie in memory: for tests of what comes after reading."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from regraft.arrays import ArrayInfo, Checkpoint, Requirement


def checkpoint_of(
    arrays: Mapping[str, np.ndarray],
    *,
    layout: str | None = None,
    requirements: tuple[Requirement, ...] = (),
    roles: Mapping[str, Any] | None = None,
    layers: Mapping[str, str] | None = None,
    placed: Mapping[str, tuple[str, str]] | None = None,
    format: str = "memory",
    reads: Counter | None = None,
) -> Checkpoint:
    """A checkpoint of these arrays; `placed` gives an array's (layer, leaf), `reads` counts how often each is read."""

    def read(name: str) -> np.ndarray:
        if reads is not None:
            reads[name] += 1
        return arrays[name]

    infos = {
        name: ArrayInfo(
            array.shape,
            str(array.dtype),
            role=(roles or {}).get(name, "weight"),
            layer=(layers or {}).get(name, "") or (placed or {}).get(name, ("", ""))[0],
            leaf=(placed or {}).get(name, ("", ""))[1],
        )
        for name, array in arrays.items()
    }
    return Checkpoint(Path("memory.npz"), format, layout, infos, read, requirements=requirements)


def arrays_of(model: nn.Module, *, prefix: str = "") -> dict[str, np.ndarray]:
    """The model's state as a torch checkpoint would hold it."""
    return {prefix + name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def keras_arrays_of(layers: Mapping[str, nn.Module], *, prefix: str = "") -> dict[str, np.ndarray]:
    """Dense, convolution and batch-norm layers as Keras stores them: other names, other axis orders."""
    arrays: dict[str, np.ndarray] = {}
    for name, layer in layers.items():
        for leaf, tensor in layer.state_dict().items():
            if leaf == "num_batches_tracked":
                continue
            values = tensor.detach().numpy()
            if isinstance(layer, nn.BatchNorm2d):
                leaf = {
                    "weight": "gamma",
                    "bias": "beta",
                    "running_mean": "moving_mean",
                    "running_var": "moving_variance",
                }[leaf]
            elif leaf == "weight":
                leaf = "kernel"
                values = values.T if values.ndim == 2 else values.transpose(2, 3, 1, 0)
            arrays[f"{prefix}{name}/{leaf}"] = np.ascontiguousarray(values)
    return arrays
