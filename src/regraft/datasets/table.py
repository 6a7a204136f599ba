"""A .csv or .parquet table with a column of image paths and a column of labels."""

import csv
from collections.abc import Sequence
from pathlib import Path

from regraft.datasets.image_files import ImageFiles
from regraft.datasets.labelled import class_names, refuse_unknown_classes
from regraft.errors import DataError
from regraft.foundation.wording import counted, listed
from regraft.inputs import InputContract

PATH_COLUMNS = ("path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class", "target", "category")


def open_table(
    table: Path, contract: InputContract, *, classes: Sequence[str] | None = None, skip_unreadable: bool = False
) -> ImageFiles:
    """The images that a table lists; paths are relative to the table's folder, classes as `class_names` orders them.

    Columns: one of path/file/filename/image and one of label/class/target/category.

    Raises DataError for a missing column, a missing file, or a label that is not a class of the training data.
    """
    columns = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table)
    names_of_files = columns[_column(table, columns, PATH_COLUMNS)]
    values = columns[_column(table, columns, LABEL_COLUMNS)]
    paths = [table.parent / name for name in names_of_files]
    _refuse_missing(table, paths, values)
    _refuse_measurements(table, values)
    names = class_names(values) if classes is None else list(classes)
    refuse_unknown_classes(values, names, prefix=f"{table}: ")
    return ImageFiles(
        paths,
        [names.index(value) for value in values],
        names,
        contract,
        ids=names_of_files,
        every_class=classes is None,
        skip_unreadable=skip_unreadable,
        where=str(table),
    )


def _refuse_missing(table: Path, paths: Sequence[Path], labels: Sequence[str]) -> None:
    """Raise DataError for files that do not exist, and for rows without a label."""
    absent = [path for path in paths if not path.is_file()]
    if absent:
        lines = "\n".join(f"  {path}" for path in absent[:20])
        raise DataError(f"{table} lists {len(absent)} of {len(paths)} files that do not exist:\n{lines}")
    unlabelled = [line for line, label in enumerate(labels, start=2) if not label.strip()]
    if unlabelled:
        raise DataError(
            f"{table}: {counted(len(unlabelled), 'row', 'has/have')} no label, the first in line {unlabelled[0]}."
        )


def _refuse_measurements(table: Path, labels: Sequence[str]) -> None:
    """Raise DataError for labels that are numbers with fractions: each would be a class, in the order of its text."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return
    fractions = [label for label, number in zip(labels, numbers, strict=True) if not number.is_integer()]
    if fractions:
        raise DataError(
            f"{table}: the labels are numbers such as {listed(fractions, count=3)}, not classes.\nNumbers to predict "
            "are trained in Python: regraft.train(head, features, loss=…). Classes need names that are not fractions."
        )


def _column(table: Path, columns: dict[str, list[str]], wanted: Sequence[str]) -> str:
    matches = [name for name in columns if name.lower() in wanted]
    if len(matches) != 1:
        raise DataError(
            f"{table} has {len(matches)} columns named {' or '.join(wanted)}; expected one. It has: "
            f"{', '.join(columns)}."
        )
    return matches[0]


def _read_csv(table: Path) -> dict[str, list[str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as comma-separated text in UTF-8: {error}.") from error
    if not rows:
        raise DataError(f"{table} has no rows below its header.")
    uneven = [line for line, row in enumerate(rows, start=2) if None in row or None in row.values()]
    if uneven:
        raise DataError(f"{table}: line {uneven[0]} has another number of columns than the header.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _read_parquet(table: Path) -> dict[str, list[str]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{table} is a parquet file; reading it needs: pip install 'regraft[table]'") from error
    columns = parquet.read_table(table).to_pydict()
    return {name: [str(value) for value in values] for name, values in columns.items()}
