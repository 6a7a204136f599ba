"""Frozen TensorFlow graphs (`.pb`): a GraphDef whose variables have become constants, with the names of TF1."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ITEM_BYTES, ArrayInfo, Checkpoint
from regraft.containers.protobuf import BYTES, VARINT, ProtobufFile, looks_like
from regraft.containers.spans import Span, checked_size
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.tensor_bundle import DTYPES
from regraft.formats.tensor_proto import proto_values
from regraft.formats.tensorflow_graph import TensorFlowGraph, constant_of, requirements_of, with_graph_layers
from regraft.formats.tensorflow_nodes import GraphNode, nodes_of_graph, tensor_dtype_and_shape

_GRAPH = {1: BYTES, 2: BYTES, 3: VARINT, 4: BYTES}
# A constant may stand for many equal values; more bytes for each byte of the file are a bomb.
_MOST_BYTES_PER_BYTE, _FREE_BYTES = 32, 1 << 20
_MOST_NUMBERS = 16  # of a list of integers that is a setting: shapes, axes, paddings


@dataclass(frozen=True)
class _Constant:
    """An array in a node of the graph.  span  of its TensorProto, which is decoded when the values are read"""

    name: str
    dtype: str
    shape: tuple[int, ...]
    span: Span

    def read(self) -> np.ndarray:
        """The values. Raises CheckpointError when they are not as many as the shape says."""
        content = self.span.read()
        try:
            return proto_values(content, self.dtype, self.shape, repeats=True)
        except CheckpointError as error:
            raise CheckpointError(f"{self.span.path}: the constant {self.name} is damaged: {error}.") from error


@final
class TensorFlowFrozen(Format):
    """A `.pb` of TF1's freeze_graph, retrain.py, or of the object detection models."""

    name = "tensorflow-frozen"
    layout = "tensorflow"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A GraphDef begins with a node: its name, then the word of its operation."""
        graph = looks_like(head, _GRAPH)
        node = graph[0][1] if graph and graph[0][0] == 1 else b""
        size = node[1] if node[:1] == b"\n" and len(node) > 1 else 255
        operation = node[2 + size : 4 + size]
        word = node[4 + size : 4 + size + operation[1]] if operation[:1] == b"\x12" and len(operation) == 2 else b""
        return size < 128 and re.fullmatch(rb"[A-Za-z_][A-Za-z0-9_>]*", word) is not None

    def open(self, path: Path) -> Checkpoint:
        """The constants, those of layers with their layer; the graph is not run."""
        file = ProtobufFile(path)
        try:
            nodes = nodes_of_graph(file.whole)
        except CheckpointError as error:
            raise file.damaged(str(error)) from error
        constants = _constants(file, nodes)
        graph = TensorFlowGraph(nodes, constants.keys(), partial(constant_of, nodes))
        layers = graph.layers()
        infos = with_graph_layers(
            {name: ArrayInfo(constant.shape, constant.dtype) for name, constant in constants.items()}, layers
        )
        if not infos:
            raise CheckpointError(f"{path}: the graph holds no arrays: its variables were not frozen into constants.")
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, reader=lambda name: constants[name].read(),
            files=(path,), requirements=tuple(requirements_of(graph, layers)),
        )  # fmt: skip


def _constants(file: ProtobufFile, nodes: Mapping[str, GraphNode]) -> dict[str, _Constant]:
    """The arrays among the constants: not the single numbers and short lists that are settings of other nodes."""
    constants: dict[str, _Constant] = {}
    path, size = file.path, len(file.whole)
    for name, node in nodes.items():
        number, shape = tensor_dtype_and_shape(node.tensor) if node.op == "Const" else (0, ())
        dtype = DTYPES.get(number, "")
        if dtype not in ITEM_BYTES or _is_setting(dtype, shape):
            continue
        if checked_size(shape, dtype, path=path, name=name) > _MOST_BYTES_PER_BYTE * size + _FREE_BYTES:
            raise CheckpointError(f"{path}: {name} claims the shape {shape} in a file of {size} bytes. Refused.")
        constants[name] = _Constant(name, dtype, shape, file.span(node.tensor))
    return constants


def _is_setting(dtype: str, shape: tuple[int, ...]) -> bool:
    is_real = dtype.startswith(("float", "bfloat"))
    return prod(shape) <= 1 if is_real else prod(shape) <= _MOST_NUMBERS
