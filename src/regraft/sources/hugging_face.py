"""A Hugging Face `datasets.Dataset` as examples: its fingerprint vouches for the ids, its table knows the labels."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, final

import numpy as np
import torch

from regraft.errors import DataError
from regraft.labels import Labels, same_labels, subset_of, whole_labels
from regraft.sources.named_rows import NamedColumns, named_columns
from regraft.sources.source import Pair, Source, range_of
from regraft.tensors.keeping import kept_generators

WHERE = "the Hugging Face data set"
WAY_OUT = (
    "Make tensors by data.with_transform(function) or data.map(tokenize). Keep the inputs and one column of labels: "
    "data.select_columns([…]), data.rename_column(…, 'label')."
)
_SLICE = 1024  # rows of a table whose paths are read at once


def is_hugging_face(data: object) -> bool:
    """Whether this is a `datasets.Dataset`. The library is not imported for it."""
    library = sys.modules.get("datasets")
    kind = getattr(library, "Dataset", None)
    return isinstance(kind, type) and isinstance(data, kind)


@final
class HuggingFaceRows(Source):
    """The rows of a `datasets.Dataset`, with its format and its transform.

    The column of labels is the one with a usual name (`named_columns`); it is read from the table, so that no image is
    decoded for it. Where a transform gives other labels than the table, these are read with the inputs.

    The id of a row is the data set's fingerprint, which changes with its content, format and transform, with the row's
    number; and, for an image or a sound that is a file on disk, that file's size and time of change.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._columns: NamedColumns | None = None
        if not len(dataset):
            return
        with kept_generators():
            self._columns = named_columns(list(dataset[0]), WHERE, WAY_OUT)
            known, names = _table_labels(dataset, self._columns.label)
            self.classes = names
            if known is not None and self._agrees(known):
                self.labels = known

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> list[Pair]:
        assert self._columns is not None, "an empty data set has no row"
        return [self._columns.pair(row) for row in self.dataset.__getitems__(list(indices))]

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str] | None:
        """Fingerprint, number and file of each row; None for images inside lists, which are files of their own."""
        library, kinds = sys.modules["datasets"], self.dataset.features
        files = [name for name in kinds if isinstance(kinds[name], library.Image | library.Audio)]
        if any(_holds_files(kinds[name], library) for name in set(kinds) - set(files)):
            return None
        rows = range_of(len(self), indices)
        names = [name for name in files if _has_paths(self.dataset, name)]
        facts = _facts_of_files(self.dataset, names, rows) if names else repeat("")
        return [f"hf {self.dataset._fingerprint} {row} {fact}" for row, fact in zip(rows, facts, strict=False)]

    def _agrees(self, known: Labels) -> bool:
        """Whether a few rows have the labels that the table has: a transform may change them."""
        probes = sorted({round(index) for index in np.linspace(0, len(self) - 1, 8)})
        labels = [label for _, label in self.__getitems__(probes)]
        given, _ = whole_labels(labels, self.classes)
        try:
            return same_labels(subset_of(known, torch.tensor(probes)), given)
        except RuntimeError:  # labels of another shape
            return False


def refuse_several(data: object) -> None:
    """Raise DataError for a `datasets.DatasetDict` or another mapping of data sets: each is one part of the data."""
    if isinstance(data, Mapping):
        parts = [str(name) for name in data]
        shown = parts[0] if parts else "train"
        raise DataError(
            f"A {type(data).__name__} holds several data sets: {', '.join(parts)}. Pass one of them: data[{shown!r}]."
        )


def _table_labels(dataset: Any, name: str) -> tuple[Labels | None, tuple[str, ...]]:
    """The labels in the table as columns, and the names of the classes; None where the table has no such column."""
    library = sys.modules["datasets"]
    kind = dataset.features.get(name)
    if kind is None or _holds_files(kind, library) or isinstance(kind, library.Image | library.Audio):
        return None, ()
    column = dataset.with_format("arrow").select_columns([name])[:].column(0)
    _refuse_empty(column, name)
    names = tuple(kind.names) if isinstance(kind, library.ClassLabel) else ()
    if isinstance(kind, library.ClassLabel | library.Value) and kind.dtype.startswith(("int", "uint")):
        return torch.from_numpy(column.to_numpy().astype(np.int64)), names
    try:
        return whole_labels(column.to_pylist(), names)
    except DataError:
        return None, ()


def _refuse_empty(column: Any, name: str) -> None:
    """Raise DataError for the first row that has no label."""
    if column.null_count:
        first = next(row for row, value in enumerate(column) if not value.is_valid)
        raise DataError(f"Row {first} of {WHERE} has no {name}. Leave such rows out: data.filter(…).")


def _holds_files(kind: object, library: Any) -> bool:
    """Whether images or sounds lie inside a feature."""
    if isinstance(kind, Mapping):
        parts: Iterator[Any] = iter(kind.values())
    elif isinstance(kind, list | tuple):
        parts = iter(kind)
    else:
        parts = iter([inner] if (inner := getattr(kind, "feature", None)) is not None else [])
    return any(isinstance(part, library.Image | library.Audio) or _holds_files(part, library) for part in parts)


def _has_paths(dataset: Any, name: str) -> bool:
    """Whether a column of files holds paths without the files' bytes."""
    return any(chunk.field("bytes").null_count for chunk in dataset.data.column(name).chunks)


def _facts_of_files(dataset: Any, names: Sequence[str], rows: Sequence[int]) -> Iterator[str]:
    """Size and time of change of each row's files."""
    table = dataset.with_format("arrow").select_columns(list(names))
    for start in range(0, len(rows), _SLICE):
        part = table[list(rows[start : start + _SLICE])]
        cells = zip(*(part.column(name).combine_chunks().field("path").to_pylist() for name in names), strict=True)
        yield from (" ".join(map(_fact_of, paths)) for paths in cells)


def _fact_of(path: str | None) -> str:
    try:
        facts = os.stat(path or "")
    except OSError:  # bytes in the table, or an address: the fingerprint vouches for both
        return "-"
    return f"{facts.st_size} {facts.st_mtime_ns}"
