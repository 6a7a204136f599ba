"""The trained arrays under the names and in the layout of their checkpoint: the plan run backwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from regraft.arrays import Checkpoint
from regraft.errors import SaveError
from regraft.exports.exported import Exported
from regraft.exports.new_layers import Arrays, new_layers, places_of, shape_there
from regraft.foundation.wording import listed
from regraft.operations.changes import Cast
from regraft.operations.joins import Concatenate, KeepRest
from regraft.operations.moves import Flip, Gates, PermuteFlat, Reshape, Take, Transpose
from regraft.plan import Plan
from regraft.plans.rows import Row
from regraft.reading import open_checkpoint

# What moves values and changes none, so that it can be undone: an index goes where its value goes.
MOVES = (Transpose, Reshape, Flip, PermuteFlat, Gates, Take, Concatenate)


@dataclass(frozen=True)
class SourceArrays:
    """Arrays for a checkpoint of the source framework.

    values  name in the source → array
    placed  names whose array is of a new layer that has the old one's place, with another number of outputs perhaps
    new     names of arrays of layers that the source does not have
    left    names in the source that are not written: replaced layers, state of an optimizer
    """

    values: Mapping[str, np.ndarray]
    placed: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]


def source_arrays(exported: Exported, plan: Plan) -> SourceArrays:
    """All arrays of the trained model as the source framework names and lays them out.

    Raises SaveError for an array that was trained and whose way here cannot be undone: two were made one, say.
    """
    rows = [row for row in plan.rows if row.is_reused and row.sources]
    shapes = {name: shape for row in plan.rows for name, shape in zip(row.sources, row.source_shapes, strict=False)}
    written = _restored(rows, _state_of(exported, rows), plan)
    layers = new_layers(exported, plan)
    places = places_of(layers, plan)
    new = _new_values(layers, places, shapes)
    if twice := sorted(set(new) & set(written)):
        raise SaveError(
            f"A new layer of the model has the name of a layer of the checkpoint: {listed(twice)}. Rename it."
        )
    placed = {name for leaves in places.values() for name in leaves.values()}
    left = tuple(set(shapes) - set(written) - set(new))
    return SourceArrays(written | new, tuple(sorted(placed)), tuple(sorted(set(new) - placed)), tuple(sorted(left)))


def _state_of(exported: Exported, rows: Sequence[Row]) -> dict[str, Tensor]:
    """The model's arrays on the CPU. Raises SaveError where one of the plan's is not among them."""
    state = {name: tensor.detach().cpu() for name, tensor in exported.model.state_dict().items()}
    if missing := [str(row.target) for row in rows if row.target not in state]:
        raise SaveError(f"The model of {exported.folder} lacks arrays of its plan: {listed(missing)}.")
    return state


def _restored(rows: Sequence[Row], state: Mapping[str, Tensor], plan: Plan) -> dict[str, np.ndarray]:
    """The arrays of the layers that came from the checkpoint, by their names there."""
    moved = [row for row in rows if all(isinstance(step, (*MOVES, Cast)) for step in row.operations)]
    values = _undone(moved, state)
    if partial := [name for name, (_, is_whole) in values.items() if not is_whole]:
        raise SaveError(
            f"Only a part of {listed(partial)} of the checkpoint is in the model, so it cannot be written. Export to "
            "onnx, torch-export or safetensors."
        )
    written = {name: _in_dtype(value, plan, name) for name, (value, _) in values.items()}
    others = [row for row in rows if row not in moved]
    return written | _kept(others, state, open_checkpoint(plan.checkpoint.path)) if others else written


def _new_values(
    layers: Mapping[str, Arrays], places: Mapping[str, Mapping[str, str]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Name → array of new layers: the old layer's name where one has its place, else the layer's own."""
    values: dict[str, np.ndarray] = {}
    for layer, arrays in layers.items():
        for leaf, value in arrays.items():
            there = places.get(layer, {}).get(leaf)
            if there is None:
                values[f"{layer.replace('.', '/')}/{leaf}"] = value
            else:
                values[there] = shape_there(value, shapes[there])
    return values


def _undone(rows: Sequence[Row], state: Mapping[str, Tensor]) -> dict[str, tuple[np.ndarray, bool]]:
    """Source name → (values, whether all of them are known) by rows that move values alone."""
    flat: dict[str, np.ndarray] = {}
    known: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for row in rows:
        target = numpy_of(state[str(row.target)])
        sizes = [prod(shape) for shape in row.source_shapes]
        starts = np.cumsum([0, *sizes])
        arrays: list[np.ndarray] = [
            np.arange(start, start + size).reshape(shape)
            for start, size, shape in zip(starts, sizes, row.source_shapes, strict=False)
        ]
        for step in row.operations:
            arrays = arrays if isinstance(step, Cast) else step.run(arrays)
        where, everything = arrays[0].reshape(-1), target.reshape(-1)
        for name, start, size, shape in zip(row.sources, starts, sizes, row.source_shapes, strict=False):
            shapes[name] = shape
            values = flat.setdefault(name, np.zeros(size, target.dtype))
            filled = known.setdefault(name, np.zeros(size, bool))
            own = (where >= start) & (where < start + size)
            places = where[own] - start
            again = filled[places] & (values[places] != everything[own])
            if again.any():
                raise SaveError(
                    f"{name} of the checkpoint fills several arrays of the model, and these differ now, {row.target} "
                    "among them. They cannot be written as one array."
                )
            values[places], filled[places] = everything[own], True
    return {name: (values.reshape(shapes[name]), bool(known[name].all())) for name, values in flat.items()}


def _kept(others: Sequence[Row], state: Mapping[str, Tensor], source: Checkpoint) -> dict[str, np.ndarray]:
    """The sources of rows that change values, where the model still has what they give."""
    changed = [row for row in others if not _is_as_restored(row, source, state[str(row.target)])]
    if changed:
        lines = [f"  {row.target}: {row.work()}" for row in changed]
        head = "These arrays were trained, and what was done to the checkpoint's values cannot be undone:"
        raise SaveError("\n".join([head, *lines, "Freeze them, or export to onnx, torch-export or safetensors."]))
    return {name: source.read(name) for row in others for name in row.sources}


def _is_as_restored(row: Row, source: Checkpoint, tensor: Tensor) -> bool:
    """Whether the model still has what the plan gave it."""
    if any(isinstance(step, KeepRest) for step in row.operations):  # a part of it was the model's own
        return False
    arrays = [source.read(name) for name in row.sources]
    for step in row.operations:
        arrays = step.run(arrays)
    return np.array_equal(arrays[0], numpy_of(tensor))


def _in_dtype(value: np.ndarray, plan: Plan, name: str) -> np.ndarray:
    """The array in its source's dtype where that holds every value exactly, else as it is."""
    dtypes = (
        dtype
        for row in plan.rows
        for source, dtype in zip(row.sources, row.source_dtypes, strict=False)
        if source == name
    )
    wanted = next(dtypes, value.dtype.name)
    if wanted == value.dtype.name or wanted not in ("float16", "float32", "float64", "int32", "int64"):
        return value
    with np.errstate(over="ignore", invalid="ignore"):
        other = value.astype(wanted)
    return other if np.array_equal(other.astype(value.dtype), value) else value


def numpy_of(tensor: Tensor) -> np.ndarray:
    """As NumPy; bfloat16 as float32, which holds all its values."""
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array
