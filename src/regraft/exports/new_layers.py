"""Layers that the source lacks: their arrays in TensorFlow's layout, and the old layers whose place they have."""

from collections.abc import Callable, Mapping
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

Arrays = Mapping[str, np.ndarray]  # leaf → array
_TRACKED = "num_batches_tracked"  # torch counts batches, TensorFlow does not
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def new_layers(exported: Exported, plan: Plan) -> Mapping[str, Arrays]:
    """Layer of the model → its arrays by TensorFlow's names and axis orders, for arrays that no source fills.

    Raises SaveError for a dense layer behind a flattened map, whose inputs TensorFlow has in another order.
    """
    state = exported.model.state_dict()
    filled = {row.target for row in plan.rows if row.is_reused and row.sources}
    same_as_fill = {row.target for row in plan.rows if row.is_reused and not row.sources}
    names = [name for name in state if name not in filled and not name.endswith(_TRACKED)]
    fills = [name for name in names if name in same_as_fill]
    if changed := [name for name in fills if not _is_fill(plan, name, state[name])]:
        raise SaveError(
            f"{counted(len(changed), 'array', 'was/were')} trained that the checkpoint lacks: {listed(changed)}.\n"
            "Freeze them, or export to onnx, torch-export or safetensors."
        )
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        if name in fills:
            continue
        layer, _, leaf = name.rpartition(".")
        module = exported.model.get_submodule(layer)
        if isinstance(module, nn.Linear):
            _refuse_flattened_map(exported, module, layer)
        source_leaf, value = _in_their_layout(module, leaf, state[name].detach().cpu())
        layers.setdefault(layer, {})[source_leaf] = value
    return layers


def places_of(layers: Mapping[str, Arrays], plan: Plan) -> dict[str, dict[str, str]]:
    """New layer → leaf → name in the source, where one old layer that is not used takes the same inputs.

    Of several that do, the one of the same name; none where that leaves a choice.
    """
    old = _unused_layers(plan)
    fitting = {
        layer: {place: leaves for place, shapes in old.items() if (leaves := _leaves(arrays, shapes))}
        for layer, arrays in layers.items()
    }
    chosen: dict[str, dict[str, str]] = {}
    for layer, candidates in fitting.items():
        rivals = [other for other in fitting if other != layer and set(fitting[other]) & set(candidates)]
        own = layer.replace(".", "/")
        if own in candidates:
            chosen[layer] = candidates[own]
        elif len(candidates) == 1 and not rivals:
            chosen[layer] = next(iter(candidates.values()))
    return chosen


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
    if set(arrays) not in ({"kernel"}, {"kernel", "bias"}) or len(arrays) != len(old):
        return {}
    kernels = [name for name, shape in old.items() if len(shape) >= 2]
    biases = [name for name, shape in old.items() if len(shape) == 1]
    if len(kernels) != 1 or len(biases) != len(arrays) - 1:
        return {}
    new_inputs, old_inputs = arrays["kernel"].shape[:-1], old[kernels[0]][:-1]
    if [size for size in new_inputs if size != 1] != [size for size in old_inputs if size != 1]:
        return {}
    return {"kernel": kernels[0], **({"bias": biases[0]} if biases else {})}


def _is_fill(plan: Plan, name: str, tensor: Tensor) -> bool:
    row = next(row for row in plan.rows if row.target == name)
    arrays: list[np.ndarray] = []
    for step in row.operations:
        arrays = step.run(arrays)
    return np.array_equal(arrays[0], tensor.detach().cpu().numpy())


class _Maps(TorchFunctionMode):
    """Notes the shapes of all maps (batch, channels, height, width …) that a forward computes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
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
