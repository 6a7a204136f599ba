"""The columns of a table: .csv, .parquet, .arrow, .jsonl, tar shards, or a data set that `datasets` has saved."""

import csv
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from regraft.datasets.shards import is_shards, read_shards
from regraft.errors import DataError
from regraft.foundation.wording import listed

Columns = dict[str, Sequence[Any]]  # name → a value for each row; those of a .csv are texts
HF_FILES = ("state.json", "dataset_info.json")  # beside the rows of a data set saved by `save_to_disk`
HF_PARTS = "dataset_dict.json"  # of several


def is_table(path: Path) -> bool:
    """Whether this file, folder or pattern is read as a table."""
    if is_shards(path):
        return True
    if path.is_dir():
        return (path / HF_PARTS).is_file() or all((path / name).is_file() for name in HF_FILES)
    return path.suffix.lower() in READERS


def read_columns(table: Path) -> Columns:
    """The columns of a table. Raises DataError when it cannot be read or has no rows."""
    if is_shards(table):
        columns = read_shards(table)
    else:
        columns = _read_hf(table) if table.is_dir() else READERS[table.suffix.lower()](table)
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{table} has no rows below its header." if table.suffix == ".csv" else f"{table} has no rows.")
    return columns


def column_named(table: Path, columns: Columns, wanted: Sequence[str]) -> str:
    """The one column that has one of these names, in any case. Raises DataError for none or several."""
    matches = [name for name in columns if name.lower() in wanted]
    if len(matches) != 1:
        raise DataError(
            f"{table} has {len(matches)} columns named {' or '.join(wanted)}; expected one. It has: "
            f"{', '.join(columns)}."
        )
    return matches[0]


def refuse_missing_columns(table: Path, columns: Columns, wanted: Sequence[str]) -> None:
    """Raise DataError that names every wanted column that the table does not have."""
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DataError(f"{table} has no column {', '.join(map(repr, missing))}. It has: {listed(list(columns))}.")


def texts_of(table: Path, name: str, values: Sequence[Any]) -> list[str]:
    """A column of texts. Raises DataError for the first row that has none."""
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{table}: {name} of row {row} is {value!r}, expected a text. Fill it in, or remove the row."
            )
    return list(values)


def _read_csv(table: Path) -> Columns:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as comma-separated text in UTF-8: {error}.") from error
    uneven = [line for line, row in enumerate(rows, start=2) if None in row or None in row.values()]
    if uneven:
        raise DataError(f"{table}: line {uneven[0]} has another number of columns than the header.")
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _read_parquet(table: Path) -> Columns:
    parquet = _pyarrow(table, "parquet")
    try:
        return _arrow_columns(parquet.read_table(table))
    except (OSError, ValueError) as error:  # the library's own errors are ValueErrors
        raise DataError(f"{table} cannot be read as a parquet file: {error}") from error


def _read_arrow(table: Path) -> Columns:
    """An IPC file (also called Feather), or an IPC stream, as Hugging Face's library keeps it."""
    ipc, pyarrow = _pyarrow(table, "ipc"), _pyarrow(table, "lib")
    try:
        with pyarrow.memory_map(str(table)) as source:
            try:
                return _arrow_columns(ipc.open_file(source).read_all())
            except pyarrow.ArrowInvalid:
                source.seek(0)
                return _arrow_columns(ipc.open_stream(source).read_all())
    except (OSError, ValueError) as error:
        raise DataError(f"{table} cannot be read as an Arrow file: {error}") from error


def _pyarrow(table: Path, module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise DataError(f"Reading {table} needs pyarrow: pip install 'regraft[table]'") from error


def _arrow_columns(table: Any) -> Columns:
    """The columns of an Arrow table, with the names of classes where Hugging Face's library wrote it."""
    columns: Columns = table.to_pydict()
    facts = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    for name, kind in facts.get("info", {}).get("features", {}).items():
        names = kind.get("names") if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" else None
        if names and name in columns:
            columns[name] = [None if value is None or value < 0 else names[value] for value in columns[name]]
    return columns


def _read_jsonl(table: Path) -> Columns:
    """One JSON object a line; a key that a line lacks is None there."""
    rows: list[dict[str, Any]] = []
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{table} cannot be read as text in UTF-8: {error}.") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{table}: line {number} is no JSON: {error}.") from error
        if row is not None and not isinstance(row, dict):
            raise DataError(
                f"{table}: line {number} is a {type(row).__name__}, expected an object with the row's values."
            )
        rows += [] if row is None else [row]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_hf(folder: Path) -> Columns:
    """The rows of a saved data set: numbers of named classes as their names, images as their encoded bytes."""
    parts = [entry.name for entry in sorted(folder.iterdir()) if (entry / HF_FILES[0]).is_file()]
    if (folder / HF_PARTS).is_file():
        raise DataError(
            f"{folder} holds the data sets {', '.join(parts)}. Name each by itself: [data] train = "
            f'"{folder.name}/{parts[0] if parts else "train"}", and the others likewise.'
        )
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{folder} is a saved data set; reading it needs: pip install 'regraft[hf]'") from error
    try:
        rows: Any = datasets.load_from_disk(str(folder), keep_in_memory=False)
        return {name: _hf_column(datasets, rows, name) for name in rows.column_names}
    except Exception as error:  # the library raises what its readers raise
        raise DataError(f"{folder} cannot be read as a data set of Hugging Face's library: {error}") from error


def _hf_column(datasets: Any, rows: Any, name: str) -> list[Any]:
    kind = rows.features[name]
    if isinstance(kind, datasets.Image | datasets.Audio):
        rows = rows.cast_column(name, type(kind)(decode=False))
    values = list(rows[name])
    inner = getattr(kind, "feature", None)
    if isinstance(kind, datasets.ClassLabel):
        return [None if value is None or value < 0 else kind.int2str(value) for value in values]
    if isinstance(inner, datasets.ClassLabel):
        return [[inner.int2str(part) for part in value] for value in values]
    return values


READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv, ".parquet": _read_parquet, ".arrow": _read_arrow, ".feather": _read_arrow, ".jsonl": _read_jsonl,
}  # fmt: skip
