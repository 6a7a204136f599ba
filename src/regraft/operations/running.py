"""Operations in a row: their JSON, the shape they give, and the doing of them."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from regraft.errors import PlanError
from regraft.operations.changes import (
    AddTo,
    AlongTime,
    Cast,
    NormOver,
    Pad,
    RepeatInputs,
    SumInputs,
    VarianceFromInverse,
)
from regraft.operations.joins import (
    AddProduct,
    BiasOfNorm,
    Concatenate,
    ConcatenateAround,
    Divide,
    DivideBySigma,
    Fill,
    KeepRest,
    Multiply,
    ScaleByNorm,
    Subtract,
    WeightNorm,
)
from regraft.operations.moves import Flip, Gates, PermuteFlat, Reshape, Take, Transpose
from regraft.operations.operation import Operation, Shape
from regraft.operations.resizing import ResizePositions

OPERATIONS: dict[str, type[Operation]] = {
    kind.__name__: kind
    for kind in (
        Transpose, Reshape, Flip, PermuteFlat, Gates, Take, Cast, AddTo, VarianceFromInverse, SumInputs, RepeatInputs,
        Pad, ResizePositions, Concatenate, Subtract, Divide, Fill, KeepRest, Multiply, WeightNorm, DivideBySigma,
        NormOver, AddProduct, ScaleByNorm, BiasOfNorm, ConcatenateAround, AlongTime,
    )
}  # fmt: skip


def operation_from_json(data: dict[str, Any]) -> Operation:
    """The operation that `to_json` wrote. Raises PlanError that names the operations or arguments that exist."""
    kind = OPERATIONS.get(str(data.get("do")))
    if kind is None:
        raise PlanError(f"unknown operation {data.get('do')!r}; operations: {', '.join(OPERATIONS)}.")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    del arguments["do"]
    try:
        return kind(**arguments)
    except TypeError as error:
        raise PlanError(f"operation {kind.__name__} takes {', '.join(known)}, got {data}.") from error


def shape_after(operations: Sequence[Operation], shapes: Sequence[Shape]) -> Shape:
    """The one shape that the operations make of the sources' shapes. Raises PlanError when they cannot."""
    current = list(shapes)
    for operation in operations:
        current = operation.shapes(current)
    if len(current) != 1:
        raise PlanError(f"{len(current)} arrays are left after the operations, expected one.")
    return current[0]


def run_operations(
    operations: Sequence[Operation], arrays: Sequence[np.ndarray], own: Callable[[], np.ndarray] | None = None
) -> np.ndarray:
    """The one array that the operations make of the sources. Pure: the sources are not written to.

    own   gives the target's present values, of which KeepRest keeps some
    """
    current = list(arrays)
    for operation in operations:
        if isinstance(operation, KeepRest) and own is not None:
            current = [*current, own()]
        current = operation.run(current)
    if len(current) != 1:
        raise PlanError(f"{len(current)} arrays are left after the operations, expected one.")
    return current[0]
