"""Texts as token numbers: single texts, pairs, lists of words with a tag each, and text files for a language model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from regraft.contracts.preparation import Preparation
from regraft.contracts.text import IGNORED, TextContract, TextEncoder, Tokens
from regraft.datasets.columns import Columns, column_named, refuse_missing_columns, texts_of
from regraft.datasets.input_columns import TokenColumn
from regraft.datasets.labelled import Target, refuse_unknown_classes
from regraft.datasets.rows import TableRows
from regraft.datasets.targets import LABEL_COLUMNS
from regraft.errors import DataError, JobError
from regraft.foundation.wording import counted
from regraft.labels import class_names

TEXT_SUFFIXES = {".txt", ".text", ".md"}


def text_column(table: Path, columns: Columns, contract: TextContract, *, special: bool = True) -> TokenColumn:
    """The encoded texts of a table, or pairs of texts. Raises DataError for a missing column or a row without text.

    special  with the tokenizer's special tokens
    """
    names = [contract.column, *([contract.pair] if contract.pair else [])]
    refuse_missing_columns(table, columns, names)
    first, *second = [texts_of(table, name, columns[name]) for name in names]
    tokens, cut = TextEncoder(contract).encode(first, second[0] if second else None, special=special)
    return TokenColumn(tokens, _cut_notes(cut, contract))


def is_tagged(columns: Columns, contract: TextContract | None) -> bool:
    """Whether the text column holds lists of words."""
    return contract is not None and isinstance(next(iter(columns.get(contract.column, ())), None), list | tuple)


def tagged_words(
    table: Path, columns: Columns, contract: TextContract, target: Target
) -> tuple[TokenColumn, list[Tensor], Target]:
    """Lists of words with a tag for each: their tokens, and for each list the tags (tokens,) int64.

    A token that does not begin a word has the tag -100.
    """
    name = target.columns[0] if target.columns else column_named(table, columns, LABEL_COLUMNS)
    refuse_missing_columns(table, columns, [contract.column, name])
    words = [_words(table, contract.column, row, value) for row, value in enumerate(columns[contract.column], start=1)]
    tags = [_words(table, name, row, value) for row, value in enumerate(columns[name], start=1)]
    _refuse_uneven(table, words, tags)
    seen = [tag for row in tags for tag in row]
    names = class_names(seen) if target.classes is None else list(target.classes)
    refuse_unknown_classes(seen, names, prefix=f"{table}: ")
    numbers = {tag: number for number, tag in enumerate(names)}
    tokens, labels, _, cut = TextEncoder(contract).encode_words(words, [[numbers[tag] for tag in row] for row in tags])
    column = TokenColumn(tokens, _cut_notes(cut, contract))
    return column, labels, replace(target, task="token-classification", columns=(name,), classes=tuple(names))


def _refuse_uneven(table: Path, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> None:
    for row, (own, marks) in enumerate(zip(words, tags, strict=True), start=1):
        if len(own) != len(marks):
            raise DataError(
                f"{table}: row {row} has {counted(len(own), 'word')} and {counted(len(marks), 'tag')}; each word needs "
                "one tag."
            )


def next_tokens(tokens: Sequence[Tokens]) -> list[Tensor]:
    """The labels of a language model: the text's own tokens, -100 where the attention mask leaves one out."""
    labels = []
    for row in tokens:
        ids = row["input_ids"].clone()
        ids[row.get("attention_mask", torch.ones_like(ids)) == 0] = IGNORED
        labels.append(ids)
    return labels


def is_text(path: Path) -> bool:
    """Whether this is a file of running text, or a folder with such files alone at its top."""
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        return bool(entries) and all(entry.is_file() and is_text(entry) for entry in entries)
    return path.suffix.lower() in TEXT_SUFFIXES


def open_texts(path: Path, preparation: Preparation, *, target: Target) -> TableRows:
    """Running text for a language model: each file is encoded as a whole and cut into blocks of `max_length` tokens.

    Raises JobError without a tokenizer, DataError for another task or a text that is too short.
    """
    contract = preparation.text
    if contract is None:
        raise JobError(f'{path} is text, and the job has no tokenizer. Add [text] tokenizer = "folder/".')
    if target.task not in (None, "language-model"):
        raise DataError(
            f"{path} is running text without labels, for the task language-model. For {target.task} give a table with "
            "a column of texts and a column of labels: .csv, .parquet or .jsonl."
        )
    encoder = TextEncoder(contract)
    size = encoder.max_length
    if size is None:
        raise JobError("Running text is cut into blocks, and the tokenizer has no limit. Set [text] max_length = 256.")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    blocks = [(file, block) for file in files if is_text(file) for block in _blocks(file, encoder, size)]
    if not blocks:
        raise DataError(f"{path} has no text of two tokens or more.")
    tokens = [block for _, block in blocks]
    ids = [f"{file.name}[{number}]" for number, (file, _) in enumerate(blocks)]
    return TableRows(
        {"text": TokenColumn(tokens)}, next_tokens(tokens), replace(target, task="language-model", classes=()),
        preparation, ids=ids, where=str(path),
    )  # fmt: skip


def _blocks(file: Path, encoder: TextEncoder, size: int) -> list[Tokens]:
    """The file's tokens in blocks of this size, without special tokens; a last block of one token is left out."""
    try:
        text = file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{file} cannot be read as text in UTF-8: {error}.") from error
    ids = torch.tensor(encoder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
    return [{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids.split(size) if len(part) > 1]


def _words(table: Path, name: str, row: int, value: object) -> list[str]:
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"{table}: {name} of row {row} is {value!r}, expected a list with an entry for each word.")
    return [str(part) for part in value]


def _cut_notes(cut: int, contract: TextContract) -> list[str]:
    if not cut:
        return []
    limit = f"[text] max_length = {contract.max_length}" if contract.max_length else "the tokenizer's own limit"
    return [f"{counted(cut, 'text', 'is/are')} longer than {limit} and {'was' if cut == 1 else 'were'} cut"]
