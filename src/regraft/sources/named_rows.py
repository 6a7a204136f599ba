"""Rows with named columns as (input, label) pairs: which column is the label, and which are inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regraft.errors import DataError
from regraft.foundation.wording import counted, listed
from regraft.tensors.trees import Inputs

LABELS = ("label", "labels", "label_ids", "target", "targets", "class", "cls")  # names of a column of labels


@dataclass(frozen=True)
class NamedColumns:
    """The columns of a row.

    inputs  one is passed to the model by position; several by their names, as the arguments of `forward`
    label   the column of labels
    where   the data, for messages: "the Hugging Face data set"
    way_out how tensors are made and columns chosen there, as a sentence
    """

    inputs: tuple[str, ...]
    label: str
    where: str
    way_out: str

    def pair(self, row: Mapping[str, object]) -> tuple[Inputs, object]:
        """(input, label) of a row. Raises DataError for a column of inputs that holds no numbers."""
        missing = [name for name in (*self.inputs, self.label) if name not in row]
        if missing:
            raise DataError(
                f"A row of {self.where} has no column {listed(missing)}, which others have. It has: {listed(list(row))}"
            )
        tensors = {name: self._tensor(name, row[name]) for name in self.inputs}
        return (tensors if len(tensors) > 1 else tensors[self.inputs[0]]), row[self.label]

    def _tensor(self, name: str, value: object) -> Tensor:
        tensor = tensor_of(value)
        if tensor is None:
            raise DataError(
                f"The column {name!r} of {self.where} holds {_described(value)}, and a model takes numbers.\n"
                f"{self.way_out}"
            )
        return tensor


def named_columns(names: Sequence[str], where: str, way_out: str) -> NamedColumns:
    """The label by its name, and all other columns as inputs. Names that begin with "__" are not looked at.

    Raises DataError for no column of labels or several, and for no input.
    """
    names = [name for name in names if not name.startswith("__")]
    labels = [name for name in names if name in LABELS]
    if len(labels) != 1:
        raise DataError(
            f"{where[0].upper()}{where[1:]} has {counted(len(labels), 'column')} named {', '.join(LABELS[:-1])} or "
            f"{LABELS[-1]}; expected one. It has: {listed(list(names))}.\n{way_out}"
        )
    inputs = tuple(name for name in names if name != labels[0])
    if not inputs:
        raise DataError(f"{where[0].upper()}{where[1:]} has labels and no column of inputs.\n{way_out}")
    return NamedColumns(inputs, labels[0], where, way_out)


def tensor_of(value: object) -> Tensor | None:
    """A number, an array or nested lists of numbers as a tensor; None for anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            return None
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    try:
        return torch.tensor(value) if isinstance(value, list | bool | int | float | np.number) else None
    except (TypeError, ValueError):  # texts in a list, rows of different lengths
        return None


def _described(value: object) -> str:
    """What a value is, for a message."""
    if isinstance(value, list):
        return "lists that are no numbers of one shape"
    kind = type(value)
    return {"NoneType": "no value (None)", "str": "texts", "bytes": "bytes (not decoded)"}.get(
        kind.__name__, f"a {kind.__module__.partition('.')[0]} {kind.__name__}"
    )
