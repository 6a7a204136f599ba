"""A table of examples: columns of image or sound files, texts and numbers, and one or several columns of labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from regraft.contracts.numbers import number_rows
from regraft.contracts.preparation import Preparation
from regraft.datasets.columns import Columns, column_named, read_columns, refuse_missing_columns
from regraft.datasets.input_columns import InputColumn, NumberColumn, TokenColumn, image_column, sound_column
from regraft.datasets.labelled import UNDECIDED, Target
from regraft.datasets.masks import MASK_COLUMNS, MaskColumn
from regraft.datasets.rows import TableRows
from regraft.datasets.shards import ShardFiles
from regraft.datasets.targets import targets_of
from regraft.datasets.texts import is_tagged, next_tokens, tagged_words, text_column
from regraft.errors import DataError

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")


def open_table(
    table: Path, preparation: Preparation, *, target: Target = UNDECIDED, skip_unreadable: bool = False
) -> TableRows:
    """The examples that a table lists; paths are relative to the table's folder, classes as `class_names` orders them.

    preparation  the kinds of input, and the columns of those that are no images
    target       what is known of the labels; with classes, these are further data of the same task

    Raises DataError for a missing column, a missing file, or a label that is not a class of the training data.
    """
    columns = read_columns(table)
    known = target.classes is not None
    inputs, preparation = input_columns(
        table, columns, preparation, words=is_tagged(columns, preparation.text),
        special=target.task != "language-model",
    )  # fmt: skip
    labels: Tensor | Sequence[Any]
    if preparation.text is not None and "text" not in inputs:
        inputs["text"], labels, target = tagged_words(table, columns, preparation.text, target)
    elif target.task == "language-model":
        labels, target = _own_tokens(table, inputs), replace(target, classes=())
    elif target.task == "segmentation":
        labels, target = _masks(table, columns, preparation, target)
    else:
        labels, target = targets_of(table, columns, target)
    return TableRows(
        inputs,
        labels,
        target,
        preparation,
        ids=_ids_of(table, columns, inputs),
        every_class=not known,
        skip_unreadable=skip_unreadable,
        where=str(table),
    )


def input_columns(
    table: Path, columns: Columns, preparation: Preparation, *, words: bool = False, special: bool = True
) -> tuple[dict[str, InputColumn], Preparation]:
    """The inputs of all rows by kind, and the preparation with the scale of the numbers.

    words    leave out the column of texts, which holds lists of words
    special  encode texts with the tokenizer's special tokens
    """
    inputs: dict[str, InputColumn] = {}
    if preparation.image is not None:
        paths, contents = _files(table, columns[column_named(table, columns, PATH_COLUMNS)])
        inputs["image"] = image_column(paths, preparation.image, contents)
    if preparation.text is not None and not words:
        inputs["text"] = text_column(table, columns, preparation.text, special=special)
    if preparation.sound is not None:
        refuse_missing_columns(table, columns, [preparation.sound.column])
        paths = _on_disk(table, columns[preparation.sound.column], "sound")
        inputs["sound"] = sound_column(paths, preparation.sound)
    if preparation.numbers is not None:
        names = preparation.numbers.columns
        refuse_missing_columns(table, columns, names)
        rows = number_rows(str(table), columns, names)
        preparation = replace(preparation, numbers=preparation.numbers.measured(rows))
        assert preparation.numbers is not None
        inputs["numbers"] = NumberColumn(preparation.numbers.scaled(rows))
    return inputs, preparation


def _files(table: Path, values: Sequence[object]) -> tuple[list[Path], Sequence[bytes | None]]:
    """The paths in a column, and the files' contents where the data set holds them."""
    if isinstance(values, ShardFiles):
        return values.paths, values
    home = table if table.is_dir() else table.parent
    cells = [_cell(value) for value in values]
    contents: list[bytes | None] = [cell.get("bytes") for cell in cells]
    paths = [home / str(cell.get("path") or f"row-{row}") for row, cell in enumerate(cells, start=1)]
    absent = [path for path, content in zip(paths, contents, strict=True) if content is None and not path.is_file()]
    if absent:
        lines = "\n".join(f"  {path}" for path in absent[:20])
        raise DataError(f"{table} lists {len(absent)} of {len(paths)} files that do not exist:\n{lines}")
    return paths, contents


def _cell(value: object) -> dict[str, Any]:
    """A cell of a column of files: a path, the bytes of a file, or both as Hugging Face's library keeps them."""
    if isinstance(value, dict):
        return value
    return {"bytes": value} if isinstance(value, bytes) else {"path": value}


def _on_disk(table: Path, values: Sequence[object], noun: str) -> list[Path]:
    """The paths in a column of files that are read from disk. Raises DataError where the data set holds their bytes."""
    paths, contents = _files(table, values)
    if isinstance(contents, ShardFiles) or any(content is not None for content in contents):
        raise DataError(f"{table} holds the bytes of its {noun}s. Unpack them: {noun}s are read from files on disk.")
    return paths


def _masks(table: Path, columns: Columns, preparation: Preparation, target: Target) -> tuple[MaskColumn, Target]:
    """The masks in a column of paths."""
    if preparation.image is None:
        raise DataError(f"{table}: masks belong to images. Add an [input] section to the job.")
    name = target.columns[0] if target.columns else column_named(table, columns, MASK_COLUMNS)
    refuse_missing_columns(table, columns, [name])
    images, _ = _files(table, columns[column_named(table, columns, PATH_COLUMNS)])
    paths = _on_disk(table, columns[name], "mask")
    masks = MaskColumn(images, paths, preparation.image, replace(target, columns=(name,)))
    return masks, masks.target


def _own_tokens(table: Path, inputs: dict[str, InputColumn]) -> list[Tensor]:
    """The labels of a language model on a table of texts."""
    texts = inputs.get("text")
    if not isinstance(texts, TokenColumn):
        raise DataError(f"{table}: a language model learns from texts. Add [text] tokenizer to the job.")
    return next_tokens(texts.tokens)


def _ids_of(table: Path, columns: Columns, inputs: dict[str, InputColumn]) -> list[str]:
    """The path of each image as the table has it, or the number of the row."""
    if "image" in inputs:
        values = columns[column_named(table, columns, PATH_COLUMNS)]
        if isinstance(values, ShardFiles):
            return [f"{member.shard.name}/{member.name}" for member in values.members]
        paths = [_cell(value).get("path") for value in values]
        return [f"{table.name}[{row}]" if path is None else str(path) for row, path in enumerate(paths)]
    return [f"{table.name}[{row}]" for row in range(len(next(iter(columns.values()))))]
