"""Functions of a TensorFlow graph, put where they are called, and its partitioned variables, put together.

Source: tensorflow/core/framework/function.proto; tensorflow/python/ops/op_def_library.py (names of outputs).
"""

from collections.abc import Iterator, Mapping

from regraft.errors import CheckpointError
from regraft.formats.tensorflow_program import GraphProgram, ProgramFunction, ProgramOperation

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_DEEPEST, _MOST_OPERATIONS = 32, 200_000  # functions that call each other, and what they make
_OUTPUTS = {  # operations with several named outputs: their names, in order
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance"), "FusedBatchNormV2": ("y", "batch_mean", "batch_variance"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance"), "TopKV2": ("values", "indices"),
    "Switch": ("output_false", "output_true"), "Merge": ("output", "value_index"), "Unique": ("y", "idx"),
}  # fmt: skip


def inlined(program: GraphProgram) -> dict[str, ProgramOperation]:
    """All operations, with those of functions where these are called: "call/operation".

    Raises CheckpointError (without a file's name) when functions nest too deeply.
    """
    operations: dict[str, ProgramOperation] = {}
    for operation in program.operations.values():
        for made in _made(program, operation, 0):
            operations[made.name] = made
            if len(operations) > _MOST_OPERATIONS:
                raise CheckpointError(f"its functions make more than {_MOST_OPERATIONS} operations")
    return operations


def _made(program: GraphProgram, operation: ProgramOperation, depth: int) -> Iterator[ProgramOperation]:
    """The operation, or what the function does that it calls."""
    function = program.functions.get(str(operation.settings.get("f"))) if operation.op in _CALLS else None
    if function is None:
        yield operation
        return
    if depth > _DEEPEST:
        raise CheckpointError(f"its functions call each other more than {_DEEPEST} deep")
    for inner in body(function, operation.name, dict(zip(function.inputs, operation.inputs, strict=False))):
        yield from _made(program, inner, depth + 1)
    outputs = [value_of(function, operation.name, {}, value) for value in function.outputs.values()]
    taken = dict(zip(function.inputs, operation.inputs, strict=False))
    outputs = [taken.get(value, value) for value in outputs]
    yield ProgramOperation("IdentityN", operation.name, tuple(outputs), {})


def body(function: ProgramFunction, prefix: str, arguments: Mapping[str, str]) -> Iterator[ProgramOperation]:
    """The operations of a function, under a prefix.  arguments  name inside → the caller's value"""
    for operation in function.operations.values():
        inputs = tuple(value_of(function, prefix, arguments, name) for name in operation.inputs)
        yield ProgramOperation(operation.op, f"{prefix}/{operation.name}", inputs, operation.settings)


def value_of(function: ProgramFunction, prefix: str, arguments: Mapping[str, str], name: str) -> str:
    """A value inside a function ("argument", or "node:output:index") by its name outside of it."""
    node, _, rest = name.partition(":")
    if not rest and node in function.inputs:
        return arguments.get(node, node)
    output, _, index = rest.partition(":")
    operation = function.operations.get(node)
    names = _OUTPUTS.get(operation.op if operation is not None else "", ())
    place = names.index(output) if output in names else int(index or 0)
    return f"{prefix}/{node}:{place}" if place else f"{prefix}/{node}"


def whole_variables(operations: Mapping[str, ProgramOperation]) -> dict[str, str]:
    """Operation that joins the parts of a variable → the variable: "w/part_0" and "w/part_1" are "w"."""
    wholes: dict[str, str] = {}
    for operation in operations.values():
        parts = [_part_of(operations, name) for name in operation.inputs[:-1]] if operation.op == "ConcatV2" else []
        if parts and parts[0] and len(set(parts)) == 1:
            wholes[operation.name] = parts[0]
    return wholes


def _part_of(operations: Mapping[str, ProgramOperation], name: str) -> str:
    """The variable that a value is a part of; "" for all others."""
    operation = operations.get(name)
    for _ in range(4):
        if operation is None or operation.op not in ("Identity", "ReadVariableOp") or not operation.inputs:
            break
        operation = operations.get(operation.inputs[0])
    head, _, last = operation.name.rpartition("/") if operation is not None else ("", "", "")
    is_variable = operation is not None and operation.op in ("VariableV2", "Variable", "VarHandleOp")
    return head if is_variable and last.startswith("part_") and last[5:].isdigit() else ""
