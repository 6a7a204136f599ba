"""Features in files of other tools: Parquet, Arrow IPC, data sets of Hugging Face; written, and read back."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.caches.computing import Computed
from regraft.caches.feature_tables import LABEL, computed_from, facts_in, facts_of, table_of
from regraft.caches.rows import HeldRows
from regraft.errors import DataError
from regraft.foundation.files import atomic_file, whole_folder
from regraft.labels import count_of

PARQUET, ARROW = (".parquet",), (".arrow", ".feather")
SLICE_BYTES = 256 << 20  # of rows that are read from a store and written at once
_FACTS = "Features of regraft: "  # what the description of a data set of Hugging Face begins with


def write_features(computed: Computed, path: Path, *, ids: Sequence[str] | None = None) -> None:
    """Write features as .parquet, as .arrow or .feather (Arrow IPC), or without suffix as a Hugging Face folder.

    Raises DataError for another suffix, and for a folder that exists.
    """
    if not path.suffix:
        with whole_folder(path) as folder:
            hugging_face_of(computed, ids=ids).save_to_disk(str(folder))
        return
    _refuse_suffix(path)
    slices = _slices(computed)
    tables = (table_of(computed, rows, ids=ids) for rows in slices)
    first = next(tables)
    with atomic_file(path) as file, _writer(path, file, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def read_features(source: object) -> Computed:
    """Features that `write_features` or `hugging_face_of` made: a path, a `pyarrow.Table` or a `datasets.Dataset`.

    An .arrow file is mapped into memory and not copied. Raises DataError for anything else.
    """
    library = sys.modules.get("datasets")
    if library is not None and isinstance(source, library.Dataset):
        return _of_hugging_face(source)
    if not isinstance(source, str | Path):
        return computed_from(source, facts_in(source))
    path = Path(source)
    if path.is_dir():
        import datasets

        return _of_hugging_face(datasets.load_from_disk(str(path)))
    _refuse_suffix(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        table = _read_table(path)
    except (OSError, ValueError) as error:  # the library's own errors are ValueErrors
        raise DataError(f"{path} cannot be read: {error}") from error
    return computed_from(table, facts_in(table))


def hugging_face_of(computed: Computed, *, ids: Sequence[str] | None = None) -> Any:
    """Features as a `datasets.Dataset` in memory, with named classes; its description holds where they come from."""
    import datasets

    rows = torch.arange(count_of(computed.labels) * (1 if computed.positions is None else computed.positions.shape[1]))
    table = table_of(computed, rows, ids=ids).replace_schema_metadata(None)
    kinds = datasets.Features.from_arrow_schema(table.schema)
    if computed.classes and str(table.schema.field(LABEL).type) == "int64":
        kinds[LABEL] = datasets.ClassLabel(names=list(computed.classes))
    info = datasets.DatasetInfo(description=_FACTS + json.dumps(facts_of(computed)), features=kinds)
    return datasets.Dataset(datasets.table.InMemoryTable(table), info=info)


def _of_hugging_face(dataset: Any) -> Computed:
    description = dataset.info.description or ""
    if not description.startswith(_FACTS):
        raise DataError(
            "The data set holds no features that regraft wrote: its description lacks them. Pass it as it is: "
            "train(model, data)."
        )
    table = dataset.with_format("arrow")[:]
    return computed_from(table, json.loads(description.removeprefix(_FACTS)))


def _slices(computed: Computed) -> Iterator[Tensor]:
    """The numbers of all rows: at once where they are in memory, else a part at a time."""
    views = 1 if computed.positions is None else computed.positions.shape[1]
    rows = torch.arange(count_of(computed.labels) * views)
    size = max(1, sum(leaf.bytes_per_example for leaf in computed.cut.leaves))
    step = len(rows) if isinstance(computed.rows, HeldRows) else max(1, SLICE_BYTES // size)
    return iter(rows.split(max(1, step)))


def _refuse_suffix(path: Path) -> None:
    if path.suffix.lower() not in (*PARQUET, *ARROW):
        raise DataError(
            f"{path} is no form of features. Expected {', '.join((*PARQUET, *ARROW))}, or a saved data set."
        )


def _writer(path: Path, file: object, schema: object) -> Any:
    if path.suffix.lower() in PARQUET:
        from pyarrow import parquet

        return parquet.ParquetWriter(file, schema)
    from pyarrow import ipc

    return ipc.new_file(file, schema)


def _read_table(path: Path) -> Any:
    if path.suffix.lower() in PARQUET:
        from pyarrow import parquet

        return parquet.read_table(path)
    import pyarrow
    from pyarrow import ipc

    return ipc.open_file(pyarrow.memory_map(str(path))).read_all()
