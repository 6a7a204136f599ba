"""TensorFlow checkpoints of the V1 format: one table (or one for each shard) that holds names and values.

Source: tensorflow/core/util/saved_tensor_slice.proto and tensorflow/core/util/tensor_slice_writer.cc.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ITEM_BYTES, ArrayInfo, Checkpoint
from regraft.containers.npy_header import left_out_note
from regraft.containers.ordered_code import slice_key
from regraft.containers.protobuf import field_bytes, field_text, fields, grouped, last_bytes, last_int
from regraft.containers.spans import Extents, full_extents, joined
from regraft.containers.sstable import Table, is_table
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.roles import with_roles
from regraft.formats.tensor_bundle import DTYPES, extents_of, proto_shape
from regraft.formats.tensor_proto import proto_values
from regraft.formats.tensorflow_graph import graph_facts

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True, slots=True)
class _Variable:
    """What the table says of one variable."""

    table: Table
    dtype: str
    shape: tuple[int, ...]
    slices: tuple[Extents, ...]


@final
class TensorFlowV1(Format):
    """The one file of TF1's `Saver(write_version=V1)`, or the prefix of its shards."""

    name = "tensorflow-v1"
    layout = "tensorflow"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file is a table that begins with the list of its variables."""
        try:
            files = _files(path)
            return bool(files) and all(is_table(file) for file in files) and _is_v1(Table(files[0]))
        except (OSError, CheckpointError):
            return False

    def open(self, path: Path) -> Checkpoint:
        """The variables. A value's checksum is checked when it is read."""
        files = _files(path)
        if not files:
            raise CheckpointError(f"{path} is not a TensorFlow checkpoint of format V1: there is no such file.")
        variables = _of_all_shards(files)
        numeric = {name: variable for name, variable in variables.items() if variable.dtype in ITEM_BYTES}
        facts = graph_facts(Path(f"{path}.meta"), numeric)
        infos = {
            name: ArrayInfo(variable.shape, variable.dtype, note=_note(variable)) for name, variable in numeric.items()
        }
        skipped = [name for name in variables if name not in numeric]
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=facts.added_to(with_roles(infos)),
            reader=lambda name: _read(name, numeric[name]), files=(*files, *facts.files),
            requirements=facts.requirements, notes=(*left_out_note(skipped), *facts.notes),
        )  # fmt: skip


def _of_all_shards(files: Sequence[Path]) -> dict[str, _Variable]:
    """The variables of all files, each in one of them alone."""
    variables: dict[str, _Variable] = {}
    for file in files:
        for name, variable in _variables(Table(file)).items():
            if name in variables:
                raise CheckpointError(f"{file}: {name} is in several shards, which is not supported.")
            variables[name] = variable
    return variables


def _note(variable: _Variable) -> str:
    return f"joined from {len(variable.slices)} slices" if len(variable.slices) > 1 else ""


def _files(path: Path) -> list[Path]:
    """The file itself, or the shards that begin with its name, which TensorFlow gives as `name-?????-of-00002`."""
    if path.is_file():
        return [path]
    name = re.sub(r"-\?{5}-of-\d{5}$", "", path.name)
    return [file for file in sorted(path.parent.glob(f"{name}-?????-of-?????")) if _SHARD.search(file.name)]


def _is_v1(table: Table) -> bool:
    """Whether the first value is a list of variables; in a V2 index the same field is the number of data files."""
    return any(number == 1 and isinstance(value, memoryview) for number, value in fields(table.first_value()))


def _variables(table: Table) -> dict[str, _Variable]:
    """name → what the table's first entry says of it."""
    try:
        metas = [grouped(field_bytes(meta)) for meta in grouped(table.first_value())[1]]
        variables = dict(_variable(table, field_bytes(variable)) for meta in metas for variable in meta[1])
    except CheckpointError as error:
        raise _damaged(table, error) from error
    if not variables:
        raise CheckpointError(f"{table.path} lists no variables. It is not a TensorFlow checkpoint of format V1.")
    return variables


def _variable(table: Table, message: memoryview) -> tuple[str, _Variable]:
    """One SavedSliceMeta. Raises CheckpointError (without a file's name) unless its slices can fill the shape."""
    values = grouped(message)
    name, dtype = field_text(last_bytes(values[1])), last_int(values[3])
    shape = proto_shape(last_bytes(values[2]))
    slices = tuple(extents_of(field_bytes(value)) for value in values[4])
    if not _is_filled(shape, slices):
        raise CheckpointError(f"the slices of {name} do not fill its shape {shape}")
    if prod(shape) > table.size:
        raise CheckpointError(f"{name} claims {prod(shape)} values, more than the file has bytes")
    return name, _Variable(table, DTYPES.get(dtype % 100, f"type {dtype}"), shape, slices)


def _is_filled(shape: tuple[int, ...], slices: tuple[Extents, ...]) -> bool:
    """Whether the slices have as many values as the shape, and lie inside of it."""
    full = [full_extents(extents, shape) for extents in slices]
    sizes = [prod(length for _, length in extents) for extents in full if extents is not None]
    return bool(slices) and len(sizes) == len(slices) and sum(sizes) == prod(shape) and min(shape, default=0) >= 0


def _read(name: str, variable: _Variable) -> np.ndarray:
    """The values, from the blocks that hold the variable's slices."""
    try:
        pieces = []
        for extents in variable.slices:
            region = full_extents(extents, variable.shape) or ()
            entry = variable.table.get(slice_key(name, extents))
            if entry is None:
                raise CheckpointError(f"the values of {name} are not in the file")
            pieces.append((region, _piece(entry, variable.dtype, tuple(length for _, length in region))))
        if len(pieces) == 1:
            return pieces[0][1]
        return joined(variable.shape, variable.dtype, pieces)
    except CheckpointError as error:
        raise _damaged(variable.table, error) from error


def _piece(entry: memoryview, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of one SavedTensorSlices' SavedSlice."""
    for number, saved in fields(entry):
        for inner, tensor in fields(field_bytes(saved)) if number == 2 else ():
            if inner == 3:
                return proto_values(field_bytes(tensor), dtype, shape)
    raise CheckpointError("a slice has no values")


def _damaged(table: Table, error: CheckpointError) -> CheckpointError:
    if str(table.path) in str(error):
        return error
    return CheckpointError(f"{table.path}: {error}.\nThe file is damaged: download it again.")
