"""Inputs without labels: images, sounds, texts, rows of tables and of array files, as the model takes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from regraft.contracts.preparation import Preparation
from regraft.contracts.sound import is_sound
from regraft.contracts.text import TextEncoder
from regraft.datasets.array_file import INPUT_NAMES, inputs_from, read_npz
from regraft.datasets.columns import is_table, read_columns
from regraft.datasets.input_columns import InputColumn, TokenColumn, image_column, sound_column
from regraft.datasets.labelled import Target
from regraft.datasets.table import input_columns
from regraft.datasets.texts import is_tagged, is_text
from regraft.errors import DataError
from regraft.foundation.wording import counted, listed
from regraft.inputs import is_image
from regraft.tensors.trees import Inputs, map_tree, tensors_of

Tell = Callable[[str], None]


@final
@dataclass(frozen=True)
class Unlabelled:
    """Examples to answer.

    names  one for each: a path, or the row of a table or an array
    read   index → the model's inputs for it, without a batch axis; raises DataError for a file that cannot be read
    words  of each example, where the model tags words; and for each token the index of its word
    files  of each example, where it is an image
    """

    names: Sequence[str]
    read: Callable[[int], Inputs]
    words: Sequence[Sequence[str]] = ()
    word_of: Sequence[Sequence[int | None]] = ()
    files: Sequence[Path] = ()

    def __len__(self) -> int:
        return len(self.names)


def open_inputs(paths: Sequence[Path], preparation: Preparation, target: Target, tell: Tell) -> list[Unlabelled]:
    """What there is to answer at these paths, prepared as in training: first single files, then arrays and tables.

    tell  is given a sentence that names the files of a folder that were left out

    Raises DataError that names every path that does not exist, and for files that the model has no preparation for.
    """
    _refuse("do not exist", [path for path in paths if not path.exists()])
    _refuse("are neither files nor folders", [path for path in paths if not path.is_file() and not path.is_dir()])
    files = [file for path in paths for file in (_files_in(path, preparation, tell) if _is_folder(path) else [path])]
    several, single = list(filter(_has_rows, files)), list(filterfalse(_has_rows, files))
    groups = [_single_files(single, preparation)] if single else []
    return [*groups, *(_rows_of(file, preparation, target) for file in several)]


def batches_of(examples: Unlabelled, size: int, skipped: list[str] | None) -> Iterator[tuple[list[int], Inputs]]:
    """Indices and inputs of batches whose examples have one size: nothing is padded, so no answer depends on padding.

    skipped  takes the names of files that cannot be read; None refuses them
    """
    for start in range(0, len(examples), size):
        alike: dict[tuple[Any, ...], list[tuple[int, Inputs]]] = {}
        for index in range(start, min(start + size, len(examples))):
            inputs = _read(examples, index, skipped)
            if inputs is not None:
                shape = tuple(tuple(tensor.shape) for tensor in tensors_of(inputs))
                alike.setdefault(shape, []).append((index, inputs))
        for group in alike.values():
            indices, rows = zip(*group, strict=True)
            columns = iter([torch.stack(column) for column in zip(*map(tensors_of, rows), strict=True)])
            yield list(indices), map_tree(lambda _, columns=columns: next(columns), rows[0])


def _read(examples: Unlabelled, index: int, skipped: list[str] | None) -> Inputs | None:
    try:
        return examples.read(index)
    except DataError:
        if skipped is None:
            raise
        skipped.append(examples.names[index])
        return None


def _has_rows(file: Path) -> bool:
    """Whether the file holds several examples."""
    return file.suffix.lower() == ".npz" or is_table(file) or is_text(file)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not is_table(path)


def _refuse(fault: str, paths: Sequence[Path]) -> None:
    if paths:
        raise DataError(f"These files {fault}: {', '.join(map(str, paths))}.")


def _files_in(folder: Path, preparation: Preparation, tell: Tell) -> list[Path]:
    """A folder's files of the model's kind, at any depth; its other files are named."""
    noun, is_wanted = _kind_of_files(preparation)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    wanted = list(filter(is_wanted, files))
    if not wanted:
        raise DataError(f"{folder} holds no {noun}s.")
    others = [str(file) for file in files if not is_wanted(file)]
    if others:
        tell(f"{counted(len(others), 'file')} left out, not {noun}s by their suffix: {listed(others)}")
    return wanted


def _kind_of_files(preparation: Preparation) -> tuple[str, Callable[[Path], bool]]:
    if preparation.sound is not None:
        return "sound", is_sound
    return ("text", is_text) if preparation.text is not None else ("image", is_image)


def _single_files(files: Sequence[Path], preparation: Preparation) -> Unlabelled:
    """Files with one example each. Raises DataError for a model that takes more than the file, or another kind."""
    column: InputColumn
    if preparation.several:
        raise DataError(
            f"The model takes {' and '.join(preparation.kinds)}, and {files[0]} is a single file. Give a table with a "
            "column for each: .csv, .parquet or .jsonl."
        )
    if preparation.sound is not None:
        column = sound_column(files, preparation.sound)
    elif preparation.image is not None:
        column = image_column(files, preparation.image)
    else:
        raise DataError(_without_contract(files[0], preparation))
    kind = preparation.kinds[0]
    images = files if preparation.image is not None else ()
    return Unlabelled(list(map(str, files)), lambda index: preparation.together({kind: column[index]}), files=images)


def _rows_of(file: Path, preparation: Preparation, target: Target) -> Unlabelled:
    if file.suffix.lower() == ".npz":
        rows = _array_rows(file, preparation, target)
        return Unlabelled([f"{file}[{index}]" for index in range(len(rows))], lambda index: rows[index])
    return (_table_rows if is_table(file) else _text_rows)(file, preparation, target)


def _table_rows(table: Path, preparation: Preparation, target: Target) -> Unlabelled:
    """The rows of a table; columns of labels are not needed."""
    if not preparation.kinds:
        raise DataError(_without_contract(table, preparation))
    columns = read_columns(table)
    words: Sequence[Sequence[str]] = ()
    word_of: Sequence[Sequence[int | None]] = ()
    tagged = is_tagged(columns, preparation.text)
    inputs, _ = input_columns(table, columns, preparation, words=tagged, special=target.task != "language-model")
    if tagged and preparation.text is not None:
        words = [list(map(str, row)) for row in columns[preparation.text.column]]
        tokens, _, word_of, cut = TextEncoder(preparation.text).encode_words(words)
        if cut:
            raise DataError(f"{table}: {counted(cut, 'list')} of words too long for the model: split them.")
        inputs["text"] = TokenColumn(tokens)
    names = [f"{table}[{row}]" for row in range(len(next(iter(columns.values()))))]
    return Unlabelled(names, _reader(inputs, preparation), words, word_of)


def _text_rows(file: Path, preparation: Preparation, target: Target) -> Unlabelled:
    """The lines of a text file that are not empty."""
    if preparation.text is None or preparation.several:
        raise DataError(f"{file} is text, and the model takes {' and '.join(preparation.kinds) or 'numbers'}.")
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{file} holds no text.")
    tokens, _ = TextEncoder(preparation.text).encode(lines, special=target.task != "language-model")
    return Unlabelled([f"{file}[{row}]" for row in range(len(lines))],
                      _reader({"text": TokenColumn(tokens)}, preparation))  # fmt: skip


def _reader(columns: Mapping[str, InputColumn], preparation: Preparation) -> Callable[[int], Inputs]:
    return lambda index: preparation.together({kind: column[index] for kind, column in columns.items()})


def _array_rows(path: Path, preparation: Preparation, target: Target) -> Tensor:
    arrays = read_npz(path)
    named = [name for name in arrays if name.lower() in INPUT_NAMES]
    if len(named) != 1:
        raise DataError(f"{path}: expected one array named {' or '.join(INPUT_NAMES)}; it has {', '.join(arrays)}.")
    if preparation.image is None and arrays[named[0]].dtype == "uint8":
        raise DataError(_without_contract(path, preparation))
    return inputs_from(path, arrays[named[0]], preparation, target)


def _without_contract(path: Path, preparation: Preparation) -> str:
    if preparation.kinds:
        return f"The model takes {' and '.join(preparation.kinds)}, and {path} is none."
    return (
        f"The model was saved without an input contract, so inputs such as {path} cannot be prepared as in training.\n"
        "Save it with inputs=InputContract(…), or give the rows as the model takes them, as numbers in an .npz."
    )
