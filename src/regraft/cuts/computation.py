"""What a recorded forward computes, as plain data: its operations with their plain arguments and constant tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from regraft.cuts.record import Operation, Record
from regraft.tensors.fingerprints import hash_tensors
from regraft.tensors.trees import map_tree

# Functions whose whole numbers are factors and bounds; those of others may be sizes, which grow with the example.
ARITHMETIC = frozenset((
    "add", "sub", "mul", "div", "truediv", "true_divide", "floordiv", "floor_divide", "pow", "float_power",
    "rsub", "rpow", "rdiv", "remainder", "fmod", "clamp", "clamp_min", "clamp_max", "clip", "maximum", "minimum",
    "eq", "ne", "lt", "le", "gt", "ge", "masked_fill", "where", "lerp", "addcmul", "addcdiv",
))  # fmt: skip


def plain_arguments(name: str, args: tuple, kwargs: Mapping[str, Any]) -> str:
    """The fractions, switches and words among a function's arguments, and in arithmetic the whole numbers."""
    found: list[str] = []
    is_arithmetic = name.strip("_") in ARITHMETIC

    def note(value: Any) -> Any:
        if is_arithmetic or not isinstance(value, int) or isinstance(value, bool):
            found.append(repr(value))
        return value

    map_tree(note, [*args, *(kwargs[name] for name in sorted(kwargs))],
                  kind=(bool, int, float, complex, str, torch.dtype))  # fmt: skip
    return " ".join(found)


def computation_of(record: Record, operations: Sequence[Operation]) -> list[list[Any]]:
    """For each operation: whose forward ran it, its name, its plain arguments, and where its tensors came from.

    What a forward reads beside its arguments is in it: module-level numbers, closures, hooks, other functions, and
    tensors that are neither parameters nor buffers, by their values now.
    """
    order = {operation.index: at for at, operation in enumerate(operations)}

    def origin(index: int) -> str:
        value = record.values[index]
        while value.kind == "view" and value.sources:
            value = record.values[value.sources[0]]
        if value.operation in order:
            return f"#{order[value.operation]}"
        digest = "" if value.tensor is None else hash_tensors({"": value.tensor})
        return f"{value.kind} {value.name}{digest}"

    return [
        [record.calls[operation.call].name, operation.name, operation.plain,
         [origin(argument) for argument in operation.arguments]]
        for operation in operations
    ]  # fmt: skip
