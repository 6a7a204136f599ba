"""TensorFlow Lite models: the constant tensors, dequantised, and what the operators say of them.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, schema version 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ITEM_BYTES, ArrayInfo, Checkpoint
from regraft.containers.flatbuffer import FlatTable, root_table
from regraft.containers.spans import Span, checked_size, decoded_array, mapped
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.quantised import Quantisation, unpacked_nibbles
from regraft.formats.tflite_layers import Constants, Layers, layers_of
from regraft.formats.tflite_sparse import Sparsity, sparsity_of

_IDENTIFIER = b"TFL3"
_VERSION = 3
_MOST_NUMBERS = 64  # of a constant that is a setting of an operator
_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A constant tensor: dtype as stored, where its bytes lie, how its integers become numbers, which are stored."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    span: Span
    quantisation: Quantisation | None
    sparsity: Sparsity | None = None

    def read(self) -> np.ndarray:
        content = self.span.read()
        if self.sparsity is not None:
            stored = self.sparsity.dense(decoded_array(content, self.dtype, (-1,)), self.shape)
        elif self.dtype == "int4":
            stored = unpacked_nibbles(content, prod(self.shape)).reshape(self.shape)
        else:
            stored = decoded_array(content, self.dtype, self.shape)
        return stored if self.quantisation is None else self.quantisation.values(stored)


@final
class TFLite(Format):
    """A `.tflite`: float, float16, or quantised with one scale or one for each channel."""

    name = "tflite"
    layout = "tflite"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file carries TensorFlow Lite's identifier."""
        return head[4:8] == _IDENTIFIER

    def open(self, path: Path) -> Checkpoint:
        """The constant tensors of all subgraphs under their own names; the operators are not run."""
        try:
            tensors, layers, notes = _opened(path, root_table(mapped(path)))
        except CheckpointError as error:
            if str(path) in str(error):
                raise
            raise CheckpointError(f"{path}: {error}.\nThe file is damaged or truncated: download it again.") from error
        if not tensors:
            raise CheckpointError(f"{path} holds no constant tensors, so there are no weights in it.")
        infos = {name: _info(tensor, layers) for name, tensor in tensors.items()}
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, reader=lambda name: tensors[name].read(),
            files=(path,), requirements=layers.requirements, notes=notes,
        )  # fmt: skip


def _opened(path: Path, model: FlatTable) -> tuple[dict[str, _Tensor], Layers, tuple[str, ...]]:
    """(constant tensors by name, their layers, notes)."""
    version = model.number(0, "I")
    if version != _VERSION:
        raise CheckpointError(
            f"{path}: schema version {version}, expected {_VERSION}. Convert it with a newer TensorFlow."
        )
    buffers = model.tables(4)
    tensors: dict[str, _Tensor] = {}
    skipped: list[str] = []
    layers = Layers()
    for subgraph in model.tables(2):
        names = _constants(path, buffers, subgraph, tensors, skipped)
        values = partial(_small_values, tensors, names)
        constants = Constants(names, {name: tensors[name].dtype for name in names.values()}, values)
        layers.add(layers_of(model, subgraph, constants))
    notes = (f"{len(skipped)} constants are texts or sparse int4 and are left out: {', '.join(skipped[:5])}.",)
    return tensors, layers, notes if skipped else ()


def constant_names(path: Path, model: FlatTable) -> list[dict[int, str]]:
    """For each subgraph index of a tensor → name of the constant that it is in the checkpoint."""
    tensors: dict[str, _Tensor] = {}
    return [_constants(path, model.tables(4), subgraph, tensors, []) for subgraph in model.tables(2)]


def _constants(
    path: Path, buffers: Sequence[FlatTable], subgraph: FlatTable, tensors: dict[str, _Tensor], skipped: list[str]
) -> dict[int, str]:
    """index → name of one subgraph's constants, which are put into `tensors`; those without numbers are skipped."""
    names: dict[int, str] = {}
    for index, table in enumerate(subgraph.tables(0)):
        span = _span(path, buffers, table.number(2, "I"))
        if span is None or not span.size:
            continue
        name = _unused(table.text(3) or f"tensor_{index}", tensors)
        dtype = _DTYPES.get(table.number(1, "b"), "unknown")
        if dtype in ("string", "unknown") or (dtype == "int4" and table.table(6) is not None):
            skipped.append(name)
            continue
        tensors[name] = _tensor(path, name, dtype, table, span)
        names[index] = name
    return names


def _small_values(tensors: Mapping[str, _Tensor], names: Mapping[int, str], index: int) -> np.ndarray | None:
    """The values of a small constant: paddings, axes; None for others."""
    tensor = tensors.get(names.get(index, ""))
    return tensor.read() if tensor is not None and prod(tensor.shape) <= _MOST_NUMBERS else None


def _tensor(path: Path, name: str, dtype: str, table: FlatTable, span: Span) -> _Tensor:
    shape = tuple(int(size) for size in table.numbers(0, "<i4"))
    sparsity = sparsity_of(table.table(6), len(shape))
    if sparsity is not None:
        return _sparse(path, name, dtype, table, span, sparsity)
    if dtype == "int4":
        expected = (checked_size(shape, "int8", path=path, name=name) + 1) // 2
    else:
        expected = checked_size(shape, dtype, path=path, name=name)
    if expected != span.size:
        raise CheckpointError(
            f"{path}: {name} is {dtype} of shape {shape}, {expected} bytes, but {span.size} are stored."
        )
    return _Tensor(name, dtype, shape, span, _quantisation(path, name, dtype, shape, table.table(4)))


def _sparse(path: Path, name: str, dtype: str, table: FlatTable, span: Span, sparsity: Sparsity) -> _Tensor:
    """A tensor of which not all values are stored; its indices are compared with them when it is read."""
    shape = tuple(int(size) for size in table.numbers(0, "<i4"))
    checked_size(shape, dtype, path=path, name=name)
    if span.size % ITEM_BYTES[dtype]:
        raise CheckpointError(f"{path}: {name} is {dtype}, but {span.size} bytes are stored.")
    return _Tensor(name, dtype, shape, span, _quantisation(path, name, dtype, shape, table.table(4)), sparsity)


def _quantisation(
    path: Path, name: str, dtype: str, shape: tuple[int, ...], table: FlatTable | None
) -> Quantisation | None:
    """How the tensor's integers become numbers; None when they are what they are."""
    scales = table.numbers(2, "<f4") if table is not None and "int" in dtype else np.empty(0, np.float32)
    if table is None or not len(scales) or (len(scales) == 1 and not scales[0]):
        return None
    quantisation = Quantisation(scales, table.numbers(3, "<i8"), int(table.number(6, "i")))
    try:
        quantisation.check(shape)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: the quantisation parameters of {name} are damaged: {error}.") from error
    return quantisation


def _span(path: Path, buffers: Sequence[FlatTable], index: int) -> Span | None:
    """Where the bytes of a buffer lie: inside of the FlatBuffer or, in files above 2 GiB, behind it."""
    if index >= len(buffers):
        raise CheckpointError(f"{path}: a tensor names buffer {index} of {len(buffers)}. The file is damaged.")
    start, size = buffers[index].content(0, 1)
    outer = buffers[index].number(1, "Q")
    if size or outer <= 1:
        return Span(path, start, size) if size else None
    size = buffers[index].number(2, "Q")
    if outer + size > path.stat().st_size:
        raise CheckpointError(f"{path}: buffer {index} ends at byte {outer + size}, beyond the end of the file.")
    return Span(path, outer, size)


def _unused(name: str, taken: dict[str, _Tensor]) -> str:
    """The name, with a number when another subgraph has used it already."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


def _info(tensor: _Tensor, layers: Layers) -> ArrayInfo:
    kind, layer, leaf = layers.owners.get(tensor.name, ("", "", ""))
    coding = tensor.quantisation
    # Integers without a scale are shapes, axes and indices of the graph itself.
    is_constant = coding is None and tensor.dtype in ITEM_BYTES and "int" in tensor.dtype and not kind
    return ArrayInfo(
        tensor.shape,
        tensor.dtype.replace("int4", "int8") if coding is None else "float32",
        "constant" if is_constant else "weight",
        kind,
        "" if coding is None else coding.note(tensor.dtype),
        layer,
        leaf,
    )
