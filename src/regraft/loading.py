"""The step that writes: a plan without problems → the model's own tensors, all or nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.arrays import Checkpoint
from regraft.errors import Advice, PlanError
from regraft.foundation.files import sha256_of
from regraft.foundation.patterns import exact_pattern
from regraft.foundation.wording import counted, listed, near_names
from regraft.matching import still_differing
from regraft.operations.changes import Cast
from regraft.operations.running import run_operations, shape_after
from regraft.plan import FileIdentity, Plan
from regraft.plans.adoption import adopt
from regraft.plans.describing import describe_model, state_tensors
from regraft.plans.layers import TargetArray
from regraft.plans.rows import Row


def apply_plan(plan: Plan, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Fill the model's parameters and buffers as the plan says, and set the settings that it adopts.

    All or nothing: on any failure the model is bit-identical to before. Parameter objects and ties stay. Each source
    is read once; besides the model only the chosen arrays are in memory.

    A parameter or buffer on the meta device is replaced by one on the CPU that holds the new values: a large model that
    was created there takes its memory once.

    Raises PlanError when the plan has problems, was made for another checkpoint or model, or when values turn up that
    it cannot answer for: NaN or infinity, a number that the target's dtype cannot hold, tied tensors that differ.
    """
    plan.check()
    with adopt(model, plan.adopted) as changes:
        _refuse_strangers(plan, checkpoint, model)
        _refuse_empty(plan, model)
        _refuse_useless_changes(plan, checkpoint, model)
        staged = _stage(plan.reused, checkpoint, state_tensors(model))
        checkpoint.refuse_changes()
        _write(staged, model)
        changes.pop_all()  # nothing failed: they stay


def _refuse_useless_changes(plan: Plan, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raise PlanError when the changed model still computes something else than the source where it was changed."""
    left = still_differing(plan, checkpoint, model) if plan.adopted else ()
    if left:
        head = "What the plan adopts does not give the source's function; nothing was changed."
        lines = [row.problem() for row in left]
        raise PlanError("\n".join([head, *lines, "Accept these differences, or change the model itself."]))


def _refuse_empty(plan: Plan, model: nn.Module) -> None:
    """Raise PlanError for arrays on the meta device that would stay without values."""
    tensors = state_tensors(model)
    filled = {id(tensors[row.target or ""]) for row in plan.reused}
    arrays = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, tensor in arrays if tensor.is_meta and id(tensor) not in filled]
    if empty:
        raise PlanError(
            f"{counted(len(empty), 'array lies/arrays lie')} on the meta device and would stay without values, since "
            f"the plan does not fill {'it' if len(empty) == 1 else 'them'}: {listed(empty)}.\nReuse layers that fill "
            "them, or create these layers on the CPU."
        )


def _refuse_strangers(plan: Plan, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raise PlanError with every row that names an array which this checkpoint or this model does not have so."""
    arrays = {layer.full(leaf): array for layer in describe_model(model) for leaf, array in layer.arrays.items()}
    wrong = [*_strange_files(plan, checkpoint), *_strange_counts(plan.rows, arrays)]
    for row in plan.rows:
        wrong += [*_strange_target(row, arrays), *_strange_sources(row, checkpoint), *_impossible(row)]
    if wrong:
        head = "The plan was made for another checkpoint or another model; nothing was changed."
        raise PlanError("\n".join([head, *wrong, "Make a new plan with plan_reuse, or correct these rows."]))


def _strange_counts(rows: Sequence[Row], arrays: Mapping[str, TargetArray]) -> Iterator[str]:
    """Targets that have no row, or several."""
    planned = Counter(row.target for row in rows if row.target is not None)
    yield from (f"  target  {name} is planned {count} times" for name, count in planned.items() if count > 1)
    yield from (f"  target  {name} is in the model and not in the plan" for name in arrays if name not in planned)


def _strange_files(plan: Plan, checkpoint: Checkpoint) -> Iterator[str]:
    """Files of another name, size or content; a plan that was made of no files goes with any."""
    planned = {(file.name, file.size_bytes) for file in plan.checkpoint.files}
    present = {(path.name, size) for path, (size, *_) in checkpoint.stamps.items()}
    if planned and present and planned != present:
        yield f"  files   planned {_listed(planned)}, the checkpoint has {_listed(present)}"
    for file in plan.checkpoint.files:
        yield from _changes(file, checkpoint)


def _changes(file: FileIdentity, checkpoint: Checkpoint) -> Iterator[str]:
    """A file that was written again after the plan was made, or holds something else."""
    for path, (_, modified_ns, *_) in checkpoint.stamps.items():
        if str(path) == file.path and file.modified_ns not in (0, modified_ns):
            yield f"  files   {file.path} was changed after the plan was made"
        elif path.name == file.name and file.sha256 and sha256_of(path) != file.sha256:
            yield f"  files   {path} is not the file of the plan: its SHA-256 differs"


def _listed(files: Set[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({size:,} bytes)" for name, size in sorted(files)[:5])


def _strange_target(row: Row, arrays: Mapping[str, TargetArray]) -> Iterator[str]:
    if row.target is None:
        return
    if row.target not in arrays:
        yield f"  target  {row.target} is not in the model. {near_names(row.target, arrays)}"
        return
    array = arrays[row.target]
    if (array.shape, array.dtype) != (row.target_shape, row.target_dtype):
        yield f"  target  {row.target}  planned {row.target_form()}, the model has {array.shape} {array.dtype}"


def _strange_sources(row: Row, checkpoint: Checkpoint) -> Iterator[str]:
    for name, shape, dtype in zip(row.sources, row.source_shapes, row.source_dtypes, strict=True):
        if name not in checkpoint:
            yield f"  source  {name} is not in {checkpoint.path}. {near_names(name, checkpoint)}"
        elif (checkpoint[name].shape, checkpoint[name].dtype) != (shape, dtype):
            info = checkpoint[name]
            yield f"  source  {name}  planned {shape} {dtype}, the checkpoint has {info.shape} {info.dtype}"


def _impossible(row: Row) -> Iterator[str]:
    """What a hand-edited row asks for and its operations cannot give."""
    if not row.is_reused:
        return
    if row.target is None:
        yield f"  source  {', '.join(row.sources)} is {row.status}, but fills no target"
        return
    try:
        got = shape_after(row.operations, row.source_shapes)
    except PlanError as error:
        yield f"  target  {row.target}: {error}"
        return
    if got != row.target_shape:
        yield f"  target  {row.target}  expected {row.target_shape}, got {got} after {row.work() or 'no operation'}"
    cast = Cast(row.target_dtype)
    if cast not in row.operations and {*row.source_dtypes, row.target_dtype} != {row.target_dtype}:
        add = f"add the operation {cast.to_json()}"
        yield f"  target  {row.target} is {row.target_dtype}, the source {row.source_dtypes[0]}: {add}"


class _SourceArrays:
    """The checkpoint's arrays: each is read once, and kept until the last row that takes it."""

    def __init__(self, rows: Sequence[Row], checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.rows_left = Counter(source for row in rows for source in set(row.sources))
        self.arrays: dict[str, np.ndarray] = {}

    def of(self, row: Row) -> list[np.ndarray]:
        """The row's sources, in its order."""
        for name in row.sources:
            if name not in self.arrays:
                self.arrays[name] = self.checkpoint.read(name)
        return [self.arrays[name] for name in row.sources]

    def release(self, row: Row) -> None:
        """The row is done: forget what no other takes."""
        self.rows_left.subtract(set(row.sources))
        for name in set(row.sources):
            if not self.rows_left[name]:
                self.arrays.pop(name, None)


@dataclass(frozen=True)
class _Staged:
    row: Row
    tensor: Tensor
    values: Tensor


def _stage(rows: Sequence[Row], checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> list[_Staged]:
    """The new values of every tensor, in its dtype. Raises PlanError with all values that cannot be written."""
    sources = _SourceArrays(rows, checkpoint)
    staged: dict[int, _Staged] = {}
    problems: list[str] = []
    advice: list[Advice] = []
    for row in rows:
        tensor = tensors[row.target or ""]
        tied = staged.get(id(tensor))
        if tied is None or (tied.row.sources, tied.row.operations) != (row.sources, row.operations):
            try:
                staged[id(tensor)] = _staged(row, sources.of(row), tensor, tied)
            except PlanError as error:
                problems.append(f"  target  {row.target}\n  source  {', '.join(row.sources)}\n  {error.text}")
                advice += error.advice
        sources.release(row)
    if problems:
        head = f"{len(problems)} of {len(rows)} arrays have values that cannot be used; nothing was changed."
        raise PlanError("\n".join([head, *problems]), advice=advice)
    return list(staged.values())


def _staged(row: Row, arrays: Sequence[np.ndarray], tensor: Tensor, tied: _Staged | None) -> _Staged:
    """The row with its values. Raises PlanError for values that cannot be used."""
    result = run_operations(row.operations, arrays, own=partial(_values_of, tensor))
    values = torch.from_numpy(np.require(result, requirements=["C", "W"])).to(tensor.dtype)
    if not tensor.dtype.is_floating_point:
        _refuse_other_numbers(row, arrays, result)
    _refuse_nonfinite(row, arrays, values)
    if tied is not None and not torch.equal(tied.values, values):
        raise PlanError(f"tied_conflict: it is the same tensor as {tied.row.target}, and their sources differ")
    return tied or _Staged(row, tensor, values)


def _refuse_nonfinite(row: Row, arrays: Sequence[np.ndarray], values: Tensor) -> None:
    """Raise PlanError for NaN or infinity in the sources, unless accepted, and for what a cast makes infinite."""
    count = sum(map(_count_nonfinite, arrays))
    if count and "nonfinite" not in row.accepted:
        text = f"nonfinite: {counted(count, 'value', 'is/are')} NaN or infinite. The checkpoint may be damaged."
        accept = Advice("accept", [exact_pattern(row.name)], "use such values all the same")
        raise PlanError(text, advice=[accept])
    if not count and values.dtype.is_floating_point and not _is_finite(values):
        largest = max(float(np.abs(array).max()) for array in arrays)
        raise PlanError(f"nonfinite: values up to {largest:g} do not fit {row.target_dtype}")


def _refuse_other_numbers(row: Row, arrays: Sequence[np.ndarray], result: np.ndarray) -> None:
    """Raise PlanError when a cast to integers changed numbers; moved values are compared as a whole."""
    for array in arrays:
        if not np.array_equal(np.sort(array, axis=None), np.sort(result, axis=None)):
            raise PlanError(f"the source holds numbers that {row.target_dtype} cannot hold exactly")


def _values_of(tensor: Tensor) -> np.ndarray:
    """Its values; what NumPy does not know as float32, which holds them exactly."""
    if tensor.is_meta:
        raise PlanError("the rest keeps initial values, and has none on the meta device: create this layer on the CPU")
    values = tensor.detach().cpu()
    is_narrow = values.dtype.is_floating_point and values.dtype not in (torch.float64, torch.float32, torch.float16)
    return (values.float() if is_narrow else values).numpy()


def _is_finite(values: Tensor) -> bool:
    wide = values.float() if values.element_size() == 1 else values  # torch's isfinite does not know float8
    return bool(torch.isfinite(wide).all())


def _count_nonfinite(array: np.ndarray) -> int:
    return int(array.size - np.isfinite(array).sum()) if array.dtype.kind in "fc" else 0


_Holders = Mapping[int, Sequence[tuple[dict[str, Any], str]]]  # id of a tensor → where modules hold it


def _write(staged: list[_Staged], model: nn.Module) -> None:
    """Copy all values into the tensors; put the old ones back when anything stops it, an interrupt included."""
    old: list[tuple[Tensor, Tensor]] = []
    holders = _holders(model) if any(item.tensor.is_meta for item in staged) else {}
    uses = Counter(source for item in staged for source in item.row.sources)
    try:
        while staged:
            item = staged.pop()  # frees the new values as the old ones are kept: the memory does not grow
            old.append((item.tensor, item.tensor.detach().clone()))
            is_shared = any(uses[source] > 1 for source in item.row.sources)
            _put(item.values.clone() if is_shared and item.tensor.is_meta else item.values, item.tensor, holders)
    except BaseException as error:
        _put_back(old, holders)
        if isinstance(error, RuntimeError):
            raise PlanError(f"{item.row.target} cannot be written: {error}; nothing was changed.") from error
        raise


def _put_back(old: Sequence[tuple[Tensor, Tensor]], holders: _Holders) -> None:
    """Give tensors their old values where these were changed."""
    for tensor, values in old:
        if tensor.is_meta or not torch.equal(tensor, values):
            _put(values, tensor, holders)


@torch.no_grad()
def _put(values: Tensor, tensor: Tensor, holders: _Holders) -> None:
    """Copy the values into the tensor; where it has no memory, the modules hold the values in its place."""
    if tensor.is_meta:
        _hold(tensor if values.is_meta else values, tensor, holders)
    else:
        tensor.copy_(values)


def _holders(model: nn.Module) -> _Holders:
    """The dictionaries of modules that hold each tensor, with its name there: several for a tied one."""
    holders = defaultdict[int, list[tuple[dict[str, Any], str]]](list)
    for module in model.modules():
        for arrays in (module._parameters, module._buffers):
            for name, tensor in arrays.items():
                holders[id(tensor)].append((arrays, name))
    return holders


def _hold(values: Tensor, tensor: Tensor, holders: _Holders) -> None:
    """Let the modules hold these values in the place of a tensor without memory."""
    if isinstance(tensor, nn.Parameter) and values is not tensor:
        values = nn.Parameter(values, requires_grad=tensor.requires_grad)
    for arrays, name in holders[id(tensor)]:
        arrays[name] = values
