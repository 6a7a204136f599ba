"""The nodes of a TensorFlow graph, from a GraphDef in protobuf or, as TensorFlow.js writes it, in JSON. Nothing is run.

Source: tensorflow/core/framework/{graph,node_def,attr_value}.proto.
"""

import re
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from struct import pack, unpack
from typing import final

from regraft.containers.json_text import JsonObject
from regraft.containers.protobuf import field_bytes, field_int, field_text, fields, signed
from regraft.errors import CheckpointError
from regraft.formats.tensor_proto import varints


class Attributes(ABC):
    """The settings of a node; one that is absent is "", empty, 0 or False."""

    @abstractmethod
    def text(self, name: str) -> str:
        """A text."""

    @abstractmethod
    def texts(self, name: str) -> list[str]:
        """A list of texts."""

    @abstractmethod
    def integers(self, name: str) -> list[int]:
        """A list of whole numbers."""

    @abstractmethod
    def real(self, name: str) -> float:
        """A real number, as the shortest decimal that is this float32."""

    @abstractmethod
    def flag(self, name: str) -> bool:
        """A truth value."""


@dataclass(frozen=True)
class GraphNode:
    """One operation.

    inputs   names of the nodes whose outputs it takes, without the outputs' numbers; those that it only waits for are
             left out
    tensor   of a constant: its TensorProto, b"" for all others and in JSON
    """

    op: str
    inputs: tuple[str, ...]
    attributes: Attributes
    tensor: memoryview = field(default_factory=lambda: memoryview(b""))


@final
class _ProtoAttributes(Attributes):
    """Entries of NodeDef.attr, which are looked into when they are asked for."""

    def __init__(self, entries: list[memoryview]) -> None:
        self.entries = entries

    @cached_property
    def values(self) -> dict[str, memoryview]:
        """name → AttrValue."""
        pairs = (dict(fields(entry)) for entry in self.entries)
        return {field_text(pair[1]): field_bytes(pair[2]) for pair in pairs if 1 in pair and 2 in pair}

    def _fields(self, name: str, number: int) -> list[int | memoryview]:
        return [value for field, value in fields(self.values.get(name, b"")) if field == number]

    def _listed(self, name: str, number: int) -> list[int | memoryview]:
        lists = self._fields(name, 1)
        return [value for values in lists for inner, value in fields(field_bytes(values)) if inner == number]

    def text(self, name: str) -> str:
        return next(map(field_text, self._fields(name, 2)), "")

    def texts(self, name: str) -> list[str]:
        return [field_text(value) for value in self._listed(name, 2)]

    def integers(self, name: str) -> list[int]:
        return [number for value in self._listed(name, 3) for number in varints(value)]

    def real(self, name: str) -> float:
        bits = next(map(field_int, self._fields(name, 4)), 0)
        return decimal(unpack("<f", pack("<I", bits & 0xFFFFFFFF))[0])

    def flag(self, name: str) -> bool:
        return any(self._fields(name, 5))

    def tensor(self) -> memoryview:
        """The TensorProto of a constant."""
        return next(map(field_bytes, self._fields("value", 8)), memoryview(b""))


@final
class _JsonAttributes(Attributes):
    """NodeDef.attr in protobuf's JSON: texts in base64, whole numbers as texts."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values

    def _value(self, name: str, key: str) -> object:
        value = self.values.get(name)
        return value.get(key) if isinstance(value, Mapping) else None

    def _list(self, name: str, key: str) -> list[object]:
        lists = self._value(name, "list")
        values = lists.get(key) if isinstance(lists, Mapping) else None
        return values if isinstance(values, list) else []

    def text(self, name: str) -> str:
        return _decoded(self._value(name, "s"))

    def texts(self, name: str) -> list[str]:
        return [_decoded(value) for value in self._list(name, "s")]

    def integers(self, name: str) -> list[int]:
        texts = [str(value) for value in self._list(name, "i") if isinstance(value, str | int)]
        return [int(text) for text in texts if re.fullmatch(r"-?\d{1,19}", text, re.ASCII)]

    def real(self, name: str) -> float:
        value = self._value(name, "f")
        return decimal(float(value)) if isinstance(value, int | float) else 0.0

    def flag(self, name: str) -> bool:
        return self._value(name, "b") is True


def _decoded(value: object) -> str:
    """A text; the converter writes bytes in base64, and some versions as a list of numbers."""
    if isinstance(value, list):
        return bytes(code & 255 for code in value if isinstance(code, int)).decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    try:
        return b64decode(value, validate=False).decode("utf-8", "replace")
    except ValueError:  # a damaged file has another text
        return ""


def nodes_of_graph(graph: memoryview) -> dict[str, GraphNode]:
    """name → node of a GraphDef. Raises CheckpointError (without a file's name) when it is damaged."""
    return dict(_proto_node(field_bytes(node)) for number, node in fields(graph) if number == 1)


def node_fields(message: memoryview) -> tuple[str, str, list[str], list[memoryview]]:
    """Name, operation, inputs and the entries of attributes of a NodeDef."""
    name, op, inputs = "", "", list[str]()
    entries: list[memoryview] = []
    for number, value in fields(message):
        if number == 1:
            name = field_text(value)
        elif number == 2:
            op = field_text(value)
        elif number == 3:
            inputs.append(field_text(value))
        elif number == 5:
            entries.append(field_bytes(value))
    return name, op, inputs, entries


def _proto_node(message: memoryview) -> tuple[str, GraphNode]:
    name, op, inputs, entries = node_fields(message)
    attributes = _ProtoAttributes(entries)
    return name, GraphNode(op, _sources(inputs), attributes, attributes.tensor() if op == "Const" else memoryview(b""))


def nodes_of_json(graph: JsonObject) -> dict[str, GraphNode]:
    """The same of a GraphDef in JSON."""
    listed = graph.get("node")
    nodes: dict[str, GraphNode] = {}
    for node in listed if isinstance(listed, list) else ():
        try:
            inputs = _sources(str(name) for name in node.get("input", ()))
            attributes = _JsonAttributes(dict(node.get("attr") or {}))
            nodes[str(node["name"])] = GraphNode(str(node["op"]), inputs, attributes)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"a node of the graph is damaged ({error!r:.100})") from error
    return nodes


def leaky_relu(source: str, slope: float) -> GraphNode:
    """The node that a graph writes as max(x, slope · x)."""
    return GraphNode("LeakyRelu", (source,), _JsonAttributes({"alpha": {"f": slope}}))


def _sources(inputs: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.partition(":")[0] for name in inputs if not name.startswith("^"))


def decimal(value: float) -> float:
    """The shortest decimal that is this float32: 0.001 rather than 0.0010000000474974513."""
    return float(f"{value:.7g}")


def tensor_dtype_and_shape(tensor: memoryview) -> tuple[int, tuple[int, ...]]:
    """(TensorFlow's number of the dtype, shape) of a TensorProto; -1 stands for a rank that is not known."""
    dtype, shape = 0, memoryview(b"")
    for number, value in fields(tensor):
        if number == 1:
            dtype = field_int(value)
        elif number == 2:
            shape = field_bytes(value)
    sizes = [dict(fields(field_bytes(value))) for number, value in fields(shape) if number == 2]
    return dtype, tuple(signed(size.get(1, 0)) for size in sizes)
