"""Arrow columns as tensors, without a copy where Arrow's memory is as torch needs it."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from regraft.errors import DataError
from regraft.labels import Labels, whole_labels
from regraft.sources.named_rows import named_columns
from regraft.tensors.trees import Inputs

WHERE = "the Arrow table"
WAY_OUT = "Keep the inputs and one column of labels: table.select([…]), table.rename_columns([…])."


def is_arrow(data: object) -> bool:
    """Whether this is a `pyarrow.Table` or `RecordBatch`. The library is not imported for it."""
    library = sys.modules.get("pyarrow")
    return library is not None and isinstance(data, library.Table | library.RecordBatch)


def table_examples(table: Any, classes: Sequence[str] = ()) -> tuple[Inputs, Labels, tuple[str, ...]]:
    """(inputs, labels, class names) of a table whose columns hold numbers, or lists of them of one size.

    Raises DataError for a column of inputs that holds anything else.
    """
    columns = named_columns(list(table.column_names), WHERE, WAY_OUT)
    inputs: dict[str, Tensor] = {}
    for name in columns.inputs:
        tensor = tensor_of_column(table.column(name))
        if tensor is None:
            raise DataError(
                f"The column {name!r} of {WHERE} holds {table.column(name).type}, expected numbers or lists of numbers "
                f"of one size, without empty cells.\nImages as bytes and texts are read by a job: [data] train = "
                f'"data.parquet". {WAY_OUT}'
            )
        inputs[name] = tensor
    labels, names = column_labels(table.column(columns.label), classes)
    return (inputs if len(inputs) > 1 else inputs[columns.inputs[0]]), labels, names


def column_labels(column: Any, classes: Sequence[str] = ()) -> tuple[Labels, tuple[str, ...]]:
    """A column of labels, and the names of the classes where they are texts. Raises DataError for an empty cell."""
    if column.null_count:
        first = next(row for row, value in enumerate(column) if not value.is_valid)
        raise DataError(f"Row {first} of {WHERE} has no label. Leave such rows out: table.filter(…).")
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    tensor = tensor_of_column(column)
    return whole_labels(column.to_pylist() if tensor is None else tensor, classes)


def tensor_of_column(column: object) -> Tensor | None:
    """A column of numbers (count,), or of lists of one size (count, …), as a tensor; None for anything else.

    Shares Arrow's memory where the column lies in one piece and has no empty cell; do not write into it.
    """
    import pyarrow

    array = column if isinstance(column, pyarrow.Array) else _one_piece(column)
    sizes = [len(array)]
    while not _is_number(array.type):
        inner = _inner(array)
        if inner is None:
            return None
        array, size = inner
        sizes += size
    if array.null_count:
        return None
    return _flat(array).view(sizes)


def _one_piece(column: Any) -> Any:
    """A chunked column as an array; its one chunk as it is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _is_number(kind: object) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_primitive(kind) and not pyarrow.types.is_temporal(kind))


def _inner(array: Any) -> tuple[Any, list[int]] | None:
    """The values of lists of one size, and that size; None for anything else."""
    import pyarrow

    if array.null_count:
        return None
    kind = array.type
    if isinstance(kind, pyarrow.FixedShapeTensorType):
        in_order = kind.permutation is None or list(kind.permutation) == sorted(kind.permutation)
        return (array.storage.flatten(), list(kind.shape)) if in_order else None
    if pyarrow.types.is_fixed_size_list(kind):
        return array.flatten(), [kind.list_size]
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        lengths = np.unique(np.diff(array.offsets.to_numpy()))
        return (array.flatten(), [int(lengths[0])]) if len(lengths) == 1 else None
    return None


def _flat(array: Any) -> Tensor:
    """The numbers in a line."""
    import pyarrow

    if len(array) and not pyarrow.types.is_boolean(array.type) and not pyarrow.types.is_decimal(array.type):
        return torch.utils.dlpack.from_dlpack(array)
    return torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False)))
