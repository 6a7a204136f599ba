"""Layers that the source lacks: their arrays in TensorFlow's layout, and the old layers whose place they have."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regraft.errors import SaveError
from regraft.examples import call
from regraft.exports.exported import Exported
from regraft.foundation.wording import counted, listed
from regraft.plan import Plan
from regraft.plans.rows import Row

Arrays = Mapping[str, np.ndarray]  # leaf → array
_TRACKED = "num_batches_tracked"  # torch counts batches, TensorFlow does not
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def new_layers(exported: Exported, plan: Plan) -> Mapping[str, Arrays]:
    """Layer of the model → its arrays by TensorFlow's names and axis orders, for arrays that no source fills.

    Raises SaveError for a dense layer behind a flattened map, whose inputs TensorFlow has in another order.
    """
    state = exported.model.state_dict()
    rows = {row.target: row for row in plan.rows if row.is_reused}
    _refuse_trained_fills([row for row in rows.values() if not row.sources], state)
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name in state:
        if name in rows or name.endswith(_TRACKED):
            continue
        layer, _, leaf = name.rpartition(".")
        module = exported.model.get_submodule(layer)
        if isinstance(module, nn.Linear):
            _refuse_flattened_map(exported, module, layer)
        source_leaf, value = _in_their_layout(module, leaf, state[name].detach().cpu())
        layers.setdefault(layer, {})[source_leaf] = value
    return layers


def _refuse_trained_fills(rows: Sequence[Row], state: Mapping[str, Tensor]) -> None:
    """Raise SaveError for arrays that the source leaves out because they are 0 or 1, and that no longer are."""
    changed = [str(row.target) for row in rows if not _is_fill(row, state[str(row.target)])]
    if changed:
        raise SaveError(
            f"{counted(len(changed), 'array', 'was/were')} trained that the checkpoint lacks: {listed(changed)}.\n"
            "Freeze them, or export to onnx, torch-export or safetensors."
        )


def places_of(layers: Mapping[str, Arrays], plan: Plan) -> dict[str, dict[str, str]]:
    """New layer → leaf → name in the source, where one old layer that is not used takes the same inputs.

    Of several that do, the one of the same name; none where that leaves a choice.
    """
    old = _unused_layers(plan)
    fitting = {layer: _fitting(arrays, old) for layer, arrays in layers.items()}
    takers = Counter(place for candidates in fitting.values() for place in candidates)
    chosen: dict[str, dict[str, str]] = {}
    for layer, candidates in fitting.items():
        own = layer.replace(".", "/")
        free = [place for place in candidates if takers[place] == 1]
        if own in candidates or (free == list(candidates) and len(free) == 1):
            chosen[layer] = candidates[own if own in candidates else free[0]]
    return chosen


def _fitting(arrays: Arrays, old: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, dict[str, str]]:
    """Old layers in whose place a new one can be → leaf → name."""
    matches = {place: _leaves(arrays, shapes) for place, shapes in old.items()}
    return {place: leaves for place, leaves in matches.items() if leaves}


def shape_there(value: np.ndarray, old: tuple[int, ...]) -> np.ndarray:
    """The array with as many axes as the old one: a dense kernel as a 1×1 convolution, or the other way round."""
    return value.reshape((1,) * (len(old) - 2) + value.shape[-2:]) if len(old) >= 2 else value


def _in_their_layout(module: nn.Module, leaf: str, tensor: Tensor) -> tuple[str, np.ndarray]:
    """(leaf, array) as TensorFlow has them; other layers' arrays as torch has them."""
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and leaf == "weight":
        return "kernel", array.transpose(*range(2, array.ndim), 1, 0)
    if isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
        return _NORM.get(leaf, leaf), array
    return leaf, array


def _unused_layers(plan: Plan) -> dict[str, dict[str, tuple[int, ...]]]:
    """Source layer → name → shape, of arrays that fill nothing and are no state of an optimizer."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for row in plan.rows:
        if row.target is None and row.status != "optimizer_slot":
            for name, shape in zip(row.sources, row.source_shapes, strict=False):
                layers.setdefault(name.rpartition("/")[0], {})[name] = shape
    return layers


def _leaves(arrays: Arrays, old: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Leaf → name, where an old layer has the same arrays but for its number of outputs; else {}."""
    kernels = [name for name, shape in old.items() if len(shape) >= 2]
    biases = [name for name, shape in old.items() if len(shape) == 1]
    is_alike = len(kernels) == 1 and len(biases) == len(old) - 1 <= 1 and len(arrays) == len(old)
    if not is_alike or set(arrays) - {"kernel", "bias"} or "kernel" not in arrays:
        return {}
    if _inputs(arrays["kernel"].shape) != _inputs(old[kernels[0]]):
        return {}
    return {"kernel": kernels[0], **({"bias": biases[0]} if biases else {})}


def _inputs(shape: tuple[int, ...]) -> list[int]:
    """The sizes of a kernel's inputs; those of a 1×1 convolution are a dense layer's."""
    return [size for size in shape[:-1] if size != 1]


def _is_fill(row: Row, tensor: Tensor) -> bool:
    arrays: list[np.ndarray] = []
    for step in row.operations:
        arrays = step.run(arrays)
    return np.array_equal(arrays[0], tensor.detach().cpu().numpy())


class _Maps(TorchFunctionMode):
    """Notes the shapes of all maps (batch, channels, height, width …) that a forward computes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_function__(self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim >= 3:
            self.shapes.add(tuple(result.shape[1:]))
        return result


def _refuse_flattened_map(exported: Exported, module: nn.Linear, layer: str) -> None:
    has_maps = any(isinstance(part, nn.modules.conv._ConvNd) for part in exported.model.modules())
    if not has_maps:
        return
    try:
        with torch.inference_mode(), _Maps() as maps:
            call(exported.model, exported.known_example)
    except (RuntimeError, TypeError) as error:
        raise SaveError(f"The model does not take an input of the given shape: {error}") from error
    if any(prod(shape) == module.in_features and prod(shape[1:]) > 1 for shape in maps.shapes):
        raise SaveError(
            f"The new layer {layer} takes a flattened map, whose values TensorFlow has in another order. Put a pooling "
            "before it, or export to onnx, torch-export or safetensors."
        )
