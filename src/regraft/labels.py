"""Labels of examples: numbers, texts, sequences, several targets, as columns with a row for each example."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.errors import Advice, DataError
from regraft.foundation.wording import listed, near_names
from regraft.tensors.ragged import KINDS, Column, Ragged, column_of, rows_of
from regraft.tensors.trees import find_in, map_tree

IGNORED = -100  # torch's mark for a position without a label
# A tensor, or a dict or tuple of tensors; a column may be `Ragged` until a batch is made of it. Any, not a union: who
# reads the labels of a task knows its form, and would have to narrow the union at each access.
Labels = Any


def label_columns(labels: Sequence[Any], classes: Sequence[str] = ()) -> Labels:
    """The labels of some examples as columns: of numbers, tensors, lists (a sequence), dicts and tuples (several).

    labels   one for each example, all of the same structure
    classes  the names of the classes, where labels are texts

    Sequences of different lengths become ragged. Raises DataError for labels of different structures, for anything that
    is no number, and for texts that are no class.
    """
    first = labels[0]
    if isinstance(first, Mapping):
        _refuse_mixture(labels, Mapping, lambda label: sorted(map(str, label)))
        return {key: label_columns([label[key] for label in labels], classes) for key in first}
    if isinstance(first, tuple):
        _refuse_mixture(labels, tuple, len)
        return tuple(label_columns(column, classes) for column in zip(*labels, strict=True))
    rows = [_tensor_of(label, classes) for label in labels]
    dimensions = sorted({str(row.ndim) for row in rows})
    if len(dimensions) > 1:
        raise DataError(f"Labels have {listed(dimensions)} dimensions; expected the same of each example.")
    return column_of(rows, fill=fill_of(rows[0]))


def whole_labels(labels: object, classes: Sequence[str] = ()) -> tuple[Labels, tuple[str, ...]]:
    """The labels of a data set as columns, and the names of its classes where they are texts.

    labels   a tensor, an array, a list with one label for each example, or a dict or tuple of these
    classes  the names in their order; where none are given, the texts in the order of `class_names`
    """
    if isinstance(labels, Mapping):
        parts = [whole_labels(part, classes) for part in labels.values()]
        return dict(zip(labels, (part for part, _ in parts), strict=True)), _first_names(parts)
    if isinstance(labels, tuple):
        parts = [whole_labels(part, classes) for part in labels]
        make = getattr(labels, "_make", tuple)  # a named tuple stays one
        return make(part for part, _ in parts), _first_names(parts)
    if isinstance(labels, Tensor | Ragged):
        return labels, tuple(classes)
    return _whole_column(labels, classes)


def _first_names(parts: Sequence[tuple[Labels, tuple[str, ...]]]) -> tuple[str, ...]:
    return next((names for _, names in parts if names), ())


def _whole_column(labels: Any, classes: Sequence[str]) -> tuple[Labels, tuple[str, ...]]:
    """An array or a list of labels as a column."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind not in "OUS":
        return torch.from_numpy(labels), tuple(classes)
    rows = list(labels)
    if not classes and rows and all(isinstance(row, str) for row in rows):
        classes = class_names(map(str, rows))
    return label_columns(rows, classes), tuple(classes)


def class_names(labels: Iterable[str]) -> list[str]:
    """The different labels in their order as classes: whole numbers by value ("2" before "10"), others as texts."""
    names = sorted(set(labels))
    are_numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=int) if are_numbers else names


def count_of(labels: Labels) -> int:
    """The number of examples."""
    return len(next(columns_in(labels)))


def columns_in(labels: Labels) -> Iterator[Column]:
    """Each column of the labels."""
    return find_in(labels, KINDS)


def batch_of(labels: Labels, indices: Tensor) -> Labels:
    """The labels of the examples at `indices` (batch,) as tensors, shorter sequences filled up at their ends."""
    if isinstance(labels, Tensor):
        return labels.index_select(0, indices.to(labels.device))
    return map_tree(lambda column: column.index_select(0, indices.to(column.device)), labels, kind=KINDS)


def subset_of(labels: Labels, indices: Tensor) -> Labels:
    """The columns of the examples at `indices` (count,), in this order."""

    def chosen(column: Column) -> Column:
        indices_there = indices.to(column.device)
        return column.reordered(indices_there) if isinstance(column, Ragged) else column[indices_there]

    return map_tree(chosen, labels, kind=KINDS)


def filled(labels: Labels) -> Labels:
    """All labels as tensors, shorter sequences filled up at their ends."""
    return map_tree(lambda column: column.index_select(0, torch.arange(len(column))), labels, kind=Ragged)


def joined(parts: Sequence[Labels]) -> Labels:
    """The columns of several batches, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = iter([_joined(column) for column in zip(*map(columns_in, parts), strict=True)])
    return map_tree(lambda _: next(columns), parts[0], kind=KINDS)


def same_labels(known: Labels, labels: Labels) -> bool:
    """Whether all labels are the same, NaN included."""
    left, right = list(columns_in(known)), list(columns_in(labels))
    return len(left) == len(right) and all(map(_same, left, right))


def fill_of(row: Tensor) -> float:
    """What stands for no label in a tensor like this: -100 among whole numbers, NaN among others."""
    return nan if row.is_floating_point() else IGNORED


def renumbered(labels: Labels, classes: Sequence[str], present: Sequence[str]) -> Labels:
    """Class numbers by the names of other classes. Raises DataError for a class that is not among these."""
    if tuple(classes) == tuple(present):
        return labels
    numbers = torch.tensor([_number_of(name, present) for name in classes])
    return map_tree(lambda column: torch.where(column >= 0, numbers[column.clamp(min=0)], column), labels, kind=KINDS)


def _joined(columns: Sequence[Column]) -> Column:
    tensors = [column for column in columns if isinstance(column, Tensor)]
    if len(tensors) == len(columns) and len({column.shape[1:] for column in tensors}) == 1:
        return torch.cat(tensors)
    rows = [row for column in columns for row in rows_of(column)]
    return column_of(rows, fill=fill_of(rows[0]))


def _same(known: Column, labels: Column) -> bool:
    if not isinstance(known, Tensor) or not isinstance(labels, Tensor):
        return len(known) == len(labels) and all(map(_same, rows_of(known), rows_of(labels)))
    return known.shape == labels.shape and bool(((known == labels) | (known.isnan() & labels.isnan())).all())


def _tensor_of(label: object, classes: Sequence[str]) -> Tensor:
    """A label as a tensor; texts by the numbers of their classes."""
    if isinstance(label, str):
        return torch.tensor(_number_of(label, classes))
    if isinstance(label, list) and any(isinstance(item, str) for item in label):
        return torch.tensor([_number_of(item, classes) for item in label])
    try:
        return torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The label of an example is a {type(label).__name__}; expected a number, a text, a tensor, a list of "
            "numbers, or a dict or tuple of these."
        ) from error


def _number_of(name: str, classes: Sequence[str]) -> int:
    if not classes:
        raise DataError(
            f"The labels are texts, such as {name!r}, and the order of the classes is not known.",
            advice=[Advice("classes", [name, "…"], "number the classes in this order")],
        )
    if name not in classes:
        raise DataError(f"The label {name!r} is none of the {len(classes)} classes. {near_names(name, classes)}")
    return list(classes).index(name)


def _refuse_mixture(labels: Sequence[Any], kind: type, form: Any) -> None:
    """Raise DataError for labels that are not all of this kind, with the same parts."""
    if not all(isinstance(label, kind) and form(label) == form(labels[0]) for label in labels):
        raise DataError("The labels of the examples have different parts; each needs the same structure.")
