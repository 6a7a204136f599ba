"""A TensorFlow graph as it is written: each operation with the outputs that it takes, its settings, and functions.

Nothing is run. Graphs come from a GraphDef in protobuf or, as TensorFlow.js writes it, in JSON.
Source: tensorflow/core/framework/{graph,node_def,attr_value,function,op_def}.proto.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from struct import pack, unpack
from typing import Any

from regraft.containers.json_text import JsonObject
from regraft.containers.protobuf import Value, field_bytes, field_int, field_text, fields, grouped, last_bytes, signed
from regraft.errors import CheckpointError
from regraft.formats.tensor_bundle import DTYPES
from regraft.formats.tensor_proto import varints
from regraft.formats.tensorflow_nodes import decimal, node_fields

Settings = Mapping[str, Any]
_JSON_DTYPES = {
    "DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_INT32": "int32", "DT_UINT8": "uint8", "DT_INT16": "int16",
    "DT_INT8": "int8", "DT_STRING": "string", "DT_COMPLEX64": "complex64", "DT_INT64": "int64", "DT_BOOL": "bool",
    "DT_HALF": "float16", "DT_BFLOAT16": "bfloat16", "DT_UINT16": "uint16", "DT_RESOURCE": "resource",
}  # fmt: skip


@dataclass(frozen=True)
class ProgramOperation:
    """One node of a graph.

    inputs    the values that it takes: "name" is the first output of a node, "name:1" the second; those that it only
              waits for are left out
    settings  its attributes as plain values: dtypes are texts, a shape is a tuple with None for free sizes, or None
              when its rank is free; a tensor is its TensorProto
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True)
class ProgramFunction:
    """A function of a graph's library.

    inputs       names of its arguments
    outputs      names of what it gives → the value inside it, "node:output:index"
    operations   its nodes; their inputs are arguments, or "node:output:index"
    """

    name: str
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    operations: Mapping[str, ProgramOperation]


@dataclass(frozen=True)
class GraphProgram:
    """A graph and the functions that its nodes call."""

    operations: Mapping[str, ProgramOperation]
    functions: Mapping[str, ProgramFunction] = field(default_factory=dict)


def program_of_graph(graph: memoryview) -> GraphProgram:
    """A GraphDef. Raises CheckpointError (without a file's name) when it is damaged."""
    values = grouped(graph)
    operations = _operations(values[1])
    library = grouped(last_bytes(values[2]))
    functions = [_function(field_bytes(value)) for value in library[1]]
    return GraphProgram(operations, {function.name: function for function in functions})


def program_of_json(graph: JsonObject) -> GraphProgram:
    """The same of a GraphDef in JSON."""
    try:
        operations = [_json_operation(node) for node in graph.get("node") or ()]
        library = graph.get("library") or {}
        functions = [_json_function(function) for function in library.get("function") or ()]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"a node of the graph is damaged ({error!r:.100})") from error
    return GraphProgram(
        {operation.name: operation for operation in operations}, {function.name: function for function in functions}
    )


def _operations(messages: Iterable[Value]) -> dict[str, ProgramOperation]:
    operations = (_operation(field_bytes(message)) for message in messages)
    return {operation.name: operation for operation in operations}


def _operation(message: memoryview) -> ProgramOperation:
    name, op, inputs, entries = node_fields(message)
    settings: dict[str, Any] = {}
    for entry in entries:
        pair = dict(fields(entry))
        settings[field_text(pair[1])] = _attribute(field_bytes(pair.get(2, memoryview(b""))))
    return ProgramOperation(op, name, _values(inputs), settings)


def _function(message: memoryview) -> ProgramFunction:
    """A FunctionDef: its signature, its nodes, and which values it gives."""
    values = grouped(message)
    signature = grouped(last_bytes(values[1]))
    inputs = [field_text(last_bytes(grouped(field_bytes(value))[1])[:]) for value in signature[2]]
    returned = [grouped(field_bytes(value)) for value in values[4]]
    given = {field_text(last_bytes(pair[1])): field_text(last_bytes(pair[2])) for pair in returned}
    order = [field_text(last_bytes(grouped(field_bytes(value))[1])) for value in signature[3]]
    return ProgramFunction(
        field_text(last_bytes(signature[1])), tuple(inputs), {name: given[name] for name in order if name in given},
        _operations(values[3]),
    )  # fmt: skip


def _values(inputs: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.removesuffix(":0") if name.count(":") == 1 else name for name in inputs if name[:1] != "^")


# --- attributes -------------------------------------------------------------------------------------------------------


def _attribute(message: memoryview) -> Any:
    """An AttrValue as a plain value; None for one that holds nothing."""
    for number, value in fields(message):
        if number == 1:
            return _listed(field_bytes(value))
        return _plain(number, value)
    return None


def _plain(number: int, value: Value) -> Any:
    """One value by the number of its field, which AttrValue and its lists share (functions are 10, in lists 9)."""
    if number == 2:
        return field_text(value)
    if number == 3:
        return signed(value)
    if number == 4:
        return decimal(unpack("<f", pack("<I", field_int(value) & 0xFFFFFFFF))[0])
    if number == 5:
        return bool(field_int(value))
    if number == 6:
        return DTYPES.get(field_int(value) % 100, "")
    return _structure(number, value)


def _structure(number: int, value: Value) -> Any:
    if number == 7:
        return _shape(field_bytes(value))
    if number == 8:
        return field_bytes(value)
    return field_text(last_bytes(grouped(field_bytes(value))[1]))  # the name of a function


def _shape(message: memoryview) -> tuple[int | None, ...] | None:
    values = grouped(message)
    if values[3] and field_int(values[3][-1]):
        return None
    sizes = [signed(grouped(field_bytes(value))[1][-1]) if len(field_bytes(value)) else 0 for value in values[2]]
    return tuple(size if size >= 0 else None for size in sizes)


def _listed(message: memoryview) -> list[Any]:
    """A list of values; numbers may be packed."""
    listed: list[Any] = []
    for number, value in fields(message):
        if number in (3, 5, 6) and not isinstance(value, int):
            listed += [_plain(number, code & 0xFFFFFFFFFFFFFFFF) for code in varints(value)]
        elif number == 4 and not isinstance(value, int):
            raw = bytes(value)
            listed += [decimal(one) for one in unpack(f"<{len(raw) // 4}f", raw)]
        else:
            listed.append(_plain(10 if number == 9 else number, value))
    return listed


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json_operation(node: JsonObject) -> ProgramOperation:
    settings = {name: _json_attribute(value) for name, value in (node.get("attr") or {}).items()}
    return ProgramOperation(str(node["op"]), str(node["name"]), _values(map(str, node.get("input") or ())), settings)


def _json_function(function: JsonObject) -> ProgramFunction:
    signature = function["signature"]
    operations = [_json_operation(node) for node in function.get("nodeDef") or ()]
    inputs = tuple(str(argument["name"]) for argument in signature.get("inputArg") or ())
    outputs = [str(argument["name"]) for argument in signature.get("outputArg") or ()]
    given = function.get("ret") or {}
    return ProgramFunction(
        str(signature["name"]), inputs, {name: str(given[name]) for name in outputs if name in given},
        {operation.name: operation for operation in operations},
    )  # fmt: skip


def _json_attribute(value: Mapping[str, Any]) -> Any:
    for kind, given in value.items():
        if kind == "list":
            return [_json_plain(inner, one) for inner, many in (given or {}).items() for one in many]
        return _json_plain(kind, given)
    return None


def _json_plain(kind: str, value: Any) -> Any:
    """A value in protobuf's JSON: texts in base64, or as lists of codes; whole numbers as texts."""
    if kind == "s":
        codes = bytes(code & 255 for code in value) if isinstance(value, list) else b64decode(value, validate=False)
        return codes.decode("utf-8", "replace")
    if kind == "i":
        return int(value)
    if kind == "f":
        return decimal(float(value))
    if kind == "type":
        return _JSON_DTYPES.get(value, "") if isinstance(value, str) else DTYPES.get(int(value), "")
    if kind == "shape":
        return _json_shape(value)
    return str((value or {}).get("name", "")) if kind == "func" else value


def _json_shape(value: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    if value.get("unknownRank"):
        return None
    sizes = [int(size.get("size", 0)) for size in value.get("dim") or ()]
    return tuple(size if size >= 0 else None for size in sizes)
