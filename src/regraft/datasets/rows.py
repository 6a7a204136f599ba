"""Examples of several inputs and a label each, from files and tables."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from regraft.contracts.preparation import Preparation
from regraft.datasets.input_columns import FileColumn, InputColumn
from regraft.datasets.labelled import Labelled, Target, check_labels
from regraft.errors import DataError
from regraft.foundation.wording import counted


@final
class TableRows(Labelled):
    """Examples whose inputs are columns, one for each kind.

    columns          kind of input → its column
    labels           (count, …), or a sequence that gives the label of each example when asked
    target           with its task and classes
    ids              a stable name for each example
    every_class      refuse a class without examples, and data of one class; off for test data, which need not have all
    skip_unreadable  decode all files once now and leave out the damaged ones, with a note that names them

    An unreadable file found later raises DataError that names all unreadable files at once.
    """

    def __init__(
        self,
        columns: Mapping[str, InputColumn],
        labels: Tensor | Sequence[Any],
        target: Target,
        preparation: Preparation,
        *,
        ids: Sequence[str],
        notes: Sequence[str] = (),
        every_class: bool = True,
        skip_unreadable: bool = False,
        where: str,
    ) -> None:
        self.columns, self.target, self.preparation = dict(columns), target, preparation
        self.classes, self.ids = target.classes or (), tuple(ids)
        self.notes = (*notes, *(note for column in columns.values() for note in column.notes))
        self.are_images = "image" in columns
        self._labels, self._indices = labels, list(range(len(self.ids)))
        if skip_unreadable:
            self._leave_out({index for column in self.columns.values() for index in column.unreadable()})
        self.labels = labels[torch.tensor(self._indices, dtype=torch.int64)] if isinstance(labels, Tensor) else None
        if not self.ids:
            raise DataError(f"{where} holds no examples.")
        if (numbers := self.class_numbers()) is not None:
            if every_class:
                self._refuse_empty_classes(numbers, where)
            check_labels(numbers, len(self.classes), where=where, several=every_class)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._indices[index]
        label = self._labels[row]
        inputs = self.preparation.together({kind: column[row] for kind, column in self.columns.items()})
        return inputs, int(label) if self.target.task == "classification" else label

    def label_of(self, index: int) -> Any:
        """The label; no file of an input is read."""
        return self._labels[self._indices[index]]

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str]:
        """What each column says of its content. Reads files, decodes none."""
        rows = self._indices if indices is None else [self._indices[index] for index in indices]
        known = [column.content_ids(rows) for column in self.columns.values()]
        arguments = [f"{kind}={name}" for kind, name in self.preparation.arguments.items()]
        return [" ".join([*parts, *arguments]) for parts in zip(*known, strict=True)]

    def _leave_out(self, bad: set[int]) -> None:
        if not bad:
            return
        files = [column for column in self.columns.values() if isinstance(column, FileColumn)]
        noun = files[0].noun if len(files) == 1 else "file"
        names = sorted({str(column.paths[index]) for column in files for index in bad})
        self.notes += (f"{counted(len(bad), f'unreadable {noun}')} skipped: " + ", ".join(names),)
        self._indices = [index for index in self._indices if index not in bad]
        self.ids = tuple(self.ids[index] for index in self._indices)

    def _refuse_empty_classes(self, labels: Tensor, where: str) -> None:
        counts = torch.bincount(labels.clamp(min=0), minlength=len(self.classes))
        empty = [name for name, count in zip(self.classes, counts.tolist(), strict=False) if count == 0]
        if empty:
            noun = next((column.noun for column in self.columns.values() if isinstance(column, FileColumn)), "example")
            raise DataError(
                f"{where}: no readable {noun} of {len(empty)} of {len(self.classes)} classes: {', '.join(empty)}.\n"
                f"Add {noun}s, or remove the class."
            )
