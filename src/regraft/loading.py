"""The step that writes: a plan without problems → the model's own tensors, all or nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from regraft.arrays import Checkpoint
from regraft.errors import PlanError
from regraft.operations.changes import Cast
from regraft.operations.running import run_operations, shape_after
from regraft.plan import Plan
from regraft.plans.adoption import adopt
from regraft.plans.describing import describe_model, state_tensors
from regraft.plans.layers import TargetArray
from regraft.plans.rows import Row
from regraft.wording import counted, near_names


def apply_plan(plan: Plan, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Fill the model's parameters and buffers as the plan says, and set the settings that it adopts.

    All or nothing: on any failure the model is bit-identical to before. Parameter objects and ties stay. Each source
    is read once; besides the model only the chosen arrays are in memory.

    Raises PlanError when the plan has problems, was made for another checkpoint or model, or when values turn up that
    it cannot answer for: NaN or infinity, a number that the target's dtype cannot hold, tied tensors that differ.
    """
    plan.check()
    with adopt(model, plan.adopted) as changes:
        _refuse_strangers(plan, checkpoint, model)
        _write(_stage(plan.reused, checkpoint, state_tensors(model)))
        changes.pop_all()  # nothing failed: they stay


def _refuse_strangers(plan: Plan, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raise PlanError with every row that names an array which this checkpoint or this model does not have so."""
    arrays = {layer.full(leaf): array for layer in describe_model(model) for leaf, array in layer.arrays.items()}
    planned = Counter(row.target for row in plan.rows if row.target is not None)
    wrong = [f"  target  {name} is planned {count} times" for name, count in planned.items() if count > 1]
    wrong += _strange_files(plan, checkpoint)
    wrong += [f"  target  {name} is in the model and not in the plan" for name in arrays if name not in planned]
    for row in plan.rows:
        wrong += [*_strange_target(row, arrays), *_strange_sources(row, checkpoint)]
        wrong += _impossible(row) if row.is_reused else []
    if wrong:
        raise PlanError(
            "The plan does not belong to this checkpoint and this model; nothing was changed.\n"
            + "\n".join(wrong)
            + "\nMake a new plan with plan_reuse, or mend these rows."
        )


def _strange_files(plan: Plan, checkpoint: Checkpoint) -> Iterator[str]:
    """Files of another name or size; a plan that was made of no files goes with any."""
    planned = {(file.name, file.size_bytes) for file in plan.checkpoint.files}
    has = {(path.name, path.stat().st_size) for path in checkpoint.files if path.is_file()}
    if planned and has and planned != has:
        told = (", ".join(f"{name} ({size:,} bytes)" for name, size in sorted(files)[:5]) for files in (planned, has))
        yield "  files   planned {}, the checkpoint has {}".format(*told)


def _strange_target(row: Row, arrays: Mapping[str, TargetArray]) -> Iterator[str]:
    if row.target is None:
        return
    if row.target not in arrays:
        yield f"  target  {row.target} is not in the model. {near_names(row.target, arrays)}"
        return
    array = arrays[row.target]
    if (array.shape, array.dtype) != (row.target_shape, row.target_dtype):
        planned = f"{row.target_shape} {row.target_dtype}"
        yield f"  target  {row.target}  planned {planned}, the model has {array.shape} {array.dtype}"


def _strange_sources(row: Row, checkpoint: Checkpoint) -> Iterator[str]:
    for name, shape, dtype in zip(row.sources, row.source_shapes, row.source_dtypes, strict=True):
        if name not in checkpoint:
            yield f"  source  {name} is not in {checkpoint.path}. {near_names(name, checkpoint)}"
        elif (checkpoint[name].shape, checkpoint[name].dtype) != (shape, dtype):
            has = f"{checkpoint[name].shape} {checkpoint[name].dtype}"
            yield f"  source  {name}  planned {shape} {dtype}, the checkpoint has {has}"


def _impossible(row: Row) -> Iterator[str]:
    """What a hand-edited row asks for and its operations cannot give."""
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
    is_cast = any(operation == Cast(row.target_dtype) for operation in row.operations)
    if set(row.source_dtypes) - {row.target_dtype} and not is_cast:
        cast = f"add the operation {Cast(row.target_dtype).to_json()}"
        yield f"  target  {row.target} is {row.target_dtype}, the source {row.source_dtypes[0]}: {cast}"


@dataclass(frozen=True)
class _Staged:
    row: Row
    tensor: Tensor
    values: Tensor


def _stage(rows: tuple[Row, ...], checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> list[_Staged]:
    """The new values of every tensor, in its dtype. Raises PlanError with all values that cannot be written."""
    left = Counter(source for row in rows for source in set(row.sources))
    held: dict[str, np.ndarray] = {}
    staged: dict[int, _Staged] = {}
    problems: list[str] = []
    for row in rows:
        tensor = tensors[row.target or ""]
        before = staged.get(id(tensor))
        if before is not None and (before.row.sources, before.row.operations) == (row.sources, row.operations):
            left.subtract(set(row.sources))
            continue
        arrays = [held[name] if name in held else held.setdefault(name, checkpoint.read(name)) for name in row.sources]
        values, problem = _converted(row, arrays, tensor)
        if not problem and before is not None and not torch.equal(before.values, values):
            problem = f"tied_conflict: it is the same tensor as {before.row.target}, and their sources differ"
        if problem:
            problems.append(f"  target  {row.target}\n  source  {', '.join(row.sources)}\n  {problem}")
        staged.setdefault(id(tensor), _Staged(row, tensor, values))
        left.subtract(set(row.sources))
        for name in set(row.sources):
            if not left[name]:
                del held[name]
    if problems:
        raise PlanError(
            f"{len(problems)} of {len(rows)} arrays have values that cannot be used; nothing was changed.\n"
            + "\n".join(problems)
        )
    return list(staged.values())


def _converted(row: Row, arrays: list[np.ndarray], tensor: Tensor) -> tuple[Tensor, str]:
    """(values in the tensor's dtype, problem or "")."""
    bad = sum(_count_nonfinite(array) for array in arrays)
    result = run_operations(row.operations, arrays, own=partial(_values_of, tensor))
    exact = torch.from_numpy(np.require(result, requirements=["C", "W"]))
    values = exact.to(tensor.dtype)
    if bad and "nonfinite" not in row.accepted:
        name = (row.target or "").replace(".", r"\.")
        return values, (
            f"nonfinite: {counted(bad, 'value', 'is/are')} NaN or infinite. Is the checkpoint damaged? "
            f'accept=r"{name}" uses them.'
        )
    if not bad and tensor.dtype.is_floating_point and not _is_finite(values):
        largest = max(float(np.abs(array).max()) for array in arrays)
        return values, f"nonfinite: values up to {largest:g} do not fit {row.target_dtype}"
    if not tensor.dtype.is_floating_point and any(not _same_numbers(array, result) for array in arrays):
        return values, f"the source holds numbers that {row.target_dtype} cannot hold exactly"
    return values, ""


def _values_of(tensor: Tensor) -> np.ndarray:
    """Its values; what NumPy does not know as float32, which holds them exactly."""
    values = tensor.detach().cpu()
    is_narrow = values.dtype.is_floating_point and values.dtype not in (torch.float64, torch.float32, torch.float16)
    return (values.float() if is_narrow else values).numpy()


def _is_finite(values: Tensor) -> bool:
    wide = values.float() if values.element_size() == 1 else values  # torch's isfinite does not know float8
    return bool(torch.isfinite(wide).all())


def _count_nonfinite(array: np.ndarray) -> int:
    return int(array.size - np.isfinite(array).sum()) if array.dtype.kind in "fc" else 0


def _same_numbers(source: np.ndarray, result: np.ndarray) -> bool:
    """Whether a cast to integers kept the numbers; moved values are compared as a whole."""
    return bool(np.array_equal(np.sort(source, axis=None), np.sort(result, axis=None)))


def _write(staged: list[_Staged]) -> None:
    """Copy all values into the tensors; put the old ones back when anything stops it, an interrupt included."""
    old: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            while staged:
                item = staged.pop()  # frees the new values as the old ones are kept: the memory does not grow
                old.append((item.tensor, item.tensor.detach().clone()))
                item.tensor.copy_(item.values)
    except BaseException as error:
        with torch.no_grad():
            for tensor, values in old:
                if not torch.equal(tensor, values):
                    tensor.copy_(values)
        if isinstance(error, RuntimeError):
            raise PlanError(f"{item.row.target} cannot be written: {error}; nothing was changed.") from error
        raise
