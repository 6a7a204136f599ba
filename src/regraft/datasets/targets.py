"""Labels from columns: what they are, and their values; numbers are never taken for names of classes by chance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from regraft.contracts.numbers import number_rows
from regraft.datasets.columns import Columns, column_named, refuse_missing_columns
from regraft.datasets.labelled import Target, TargetTask, refuse_unknown_classes
from regraft.errors import Advice, DataError
from regraft.foundation.wording import counted, listed
from regraft.labels import class_names

LABEL_COLUMNS = ("label", "class", "target", "category", "labels", "tags", "ner_tags")
YES = {"1", "1.0", "true"}
YES_OR_NO = {"0", "0.0", "false", *YES}


@final
class PartLabels(Sequence[dict[str, Tensor]]):
    """The labels of several tasks: for each row column → label.

    columns  of all rows: name → (count, …)
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row: int) -> dict[str, Tensor]:  # type: ignore[override]  # no slices
        return {name: column[row] for name, column in self.columns.items()}


def targets_of(table: Path, columns: Columns, target: Target) -> tuple[Tensor | PartLabels, Target]:
    """The labels of all rows, and what they are.

    target   what is known: the task, the columns, and for further data of the same task the classes
    returns  (count,) int64 for classes, (count, labels) float32 of 0 and 1 where several may apply, and (count,) or
             (count, columns) float32 for numbers; these by column for several tasks

    Raises DataError for a missing column or label, a class that is not known, and where only the user can say whether
    numbers are classes.
    """
    names = target.columns or (column_named(table, columns, LABEL_COLUMNS),)
    refuse_missing_columns(table, columns, names)
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise DataError(f"{table}: the labels name {listed(twice)} more than once. Name each column once.")
    for name in names:
        _refuse_empty(table, name, columns[name], allows_blank=target.separator is not None)
    target = replace(target, columns=names, task=target.task or _inferred(table, columns, names, target))
    if target.task == "several":
        return _parts(table, columns, target)
    make = MAKERS.get(target.task or "")
    if make is None:
        raise DataError(
            f"{table}: the task {target.task} takes no column of labels such as {listed(list(names))}.\nTags are lists "
            "beside lists of words ([text] column), masks are files beside images ([input])."
        )
    return make(table, columns, target)


def _inferred(table: Path, columns: Columns, names: Sequence[str], target: Target) -> TargetTask:
    """The task, where the labels leave no doubt."""
    values = [value for name in names for value in columns[name]]
    if target.separator is not None or _are_several_labels(values, len(names)):
        return "multilabel"
    numbers = _as_numbers(values)
    if numbers is None:
        return "several" if len(names) > 1 else "classification"
    if any(not number.is_integer() for number in numbers):
        return "regression"
    if len(names) == 1 and set(numbers) == set(range(len(set(numbers)))):
        return "classification"  # 0 to n - 1: the model's outputs are compared with their count before it is trained
    raise DataError(
        f"{table}: the labels are numbers such as {listed([str(value) for value in values], count=3)}. They may be "
        "classes or values to predict, and only you know which.",
        advice=[
            Advice("task", "regression", "predict them as numbers"),
            Advice("task", "classification", "take each number for a class"),
        ],
    )


def _are_several_labels(values: Sequence[object], column_count: int) -> bool:
    """Whether each value is a list of labels, or says in one of several columns whether a label applies."""
    if isinstance(values[0], list):
        return True
    return column_count > 1 and all(str(value).lower() in YES_OR_NO for value in values)


def _parts(table: Path, columns: Columns, target: Target) -> tuple[PartLabels, Target]:
    """The labels of each column by its own task, which is inferred where nobody has said it."""
    parts = target.parts or tuple(replace(target, task=None, columns=(name,)) for name in target.columns)
    labels, known, open_ones = dict[str, Tensor](), list[Target](), list[DataError]()
    for part in parts:
        try:
            values, made = targets_of(table, columns, part)
        except DataError as error:
            open_ones.append(error)
            continue
        assert isinstance(values, Tensor), "a part has one task"
        labels[part.columns[0]] = values
        known.append(made)
    if open_ones:
        raise _of_parts(open_ones, parts, known)
    return PartLabels(labels), replace(target, parts=tuple(known), classes=())


def _of_parts(errors: Sequence[DataError], parts: Sequence[Target], known: Sequence[Target]) -> DataError:
    """The errors of all parts as one, with the tasks of the others filled in."""
    tasks = {made.columns[0]: made.task for made in known}
    ways = {part.columns[0]: tasks.get(part.columns[0], part.task or "…") for part in parts}
    advice = [Advice("task", ways, "say what each column is")] if any(error.advice for error in errors) else []
    return DataError("\n".join(error.text for error in errors), advice=advice)


def _classes(table: Path, columns: Columns, target: Target) -> tuple[Tensor, Target]:
    """One class for each row."""
    if len(target.columns) != 1:
        raise DataError(f"{table}: {_has(target.columns)} Classes are in one column.")
    values = [str(value) for value in columns[target.columns[0]]]
    names = class_names(values) if target.classes is None else list(target.classes)
    refuse_unknown_classes(values, names, prefix=f"{table}: ")
    numbers = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([numbers[value] for value in values], dtype=torch.int64)
    return labels, replace(target, classes=tuple(names))


def _several_labels(table: Path, columns: Columns, target: Target) -> tuple[Tensor, Target]:
    """A row of 0 and 1: a column for each label, or one column of lists."""
    if len(target.columns) > 1:
        return _columns_of_labels(table, columns, target.columns), replace(target, classes=tuple(target.columns))
    return _lists_of_labels(table, columns, target)


def _columns_of_labels(table: Path, columns: Columns, names: Sequence[str]) -> Tensor:
    wrong = [(name, value) for name in names for value in columns[name] if str(value).lower() not in YES_OR_NO]
    if wrong:
        raise DataError(f"{table}: {wrong[0][0]} has the value {wrong[0][1]!r}; expected 0 or 1 for each label.")
    rows = [[str(value).lower() in ("1", "1.0", "true") for value in columns[name]] for name in names]
    return torch.tensor(rows).t().float().contiguous()


def _lists_of_labels(table: Path, columns: Columns, target: Target) -> tuple[Tensor, Target]:
    column = target.columns[0]
    if target.separator is None and all(str(value).lower() in YES_OR_NO for value in columns[column]):
        yes = [[str(value).lower() in YES] for value in columns[column]]
        return torch.tensor(yes).float(), replace(target, classes=(column,))
    lists = [_labels_in(table, column, value, target.separator) for value in columns[column]]
    seen = [label for labels in lists for label in labels]
    names = tuple(class_names(seen)) if target.classes is None else target.classes
    refuse_unknown_classes(seen, names, prefix=f"{table}: ")
    marks = [[name in labels for name in names] for labels in map(set, lists)]
    return torch.tensor(marks, dtype=torch.float32).reshape(len(lists), len(names)), replace(target, classes=names)


def _labels_in(table: Path, column: str, value: object, separator: str | None) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(label) for label in value]
    if separator is None:
        raise DataError(
            f"{table}: {column} has the text {value!r}, expected a list of labels.\nIn a job set [data] separator to "
            'what stands between the labels, for example separator = ";". Or write each label as a column of 0 and 1: '
            '[data] labels = ["red", "round"].'
        )
    return [label.strip() for label in str(value).split(separator) if label.strip()]


def _numbers(table: Path, columns: Columns, target: Target) -> tuple[Tensor, Target]:
    """One value for each row, or one for each column."""
    rows = torch.from_numpy(number_rows(str(table), columns, target.columns)).float()
    return rows[:, 0] if len(target.columns) == 1 else rows, replace(target, classes=())


MAKERS: dict[str, Callable[[Path, Columns, Target], tuple[Tensor, Target]]] = {
    "classification": _classes,
    "multilabel": _several_labels,
    "regression": _numbers,
}


def _refuse_empty(table: Path, name: str, values: Sequence[object], *, allows_blank: bool) -> None:
    """Raise DataError for rows without a label; an empty list of labels is one, and a blank cell may be."""
    blank = [isinstance(value, str) and not value.strip() and not allows_blank for value in values]
    empty = [row for row, value in enumerate(values) if value is None or blank[row]]
    if empty:
        where = f"line {empty[0] + 2}" if table.suffix.lower() == ".csv" else f"row {empty[0] + 1}"
        raise DataError(f"{table}: {counted(len(empty), 'row', 'has/have')} no {name}, the first in {where}.")


def _as_numbers(values: Sequence[Any]) -> list[float] | None:
    """The values as numbers; None where one is no number. True and false are names."""
    if any(isinstance(value, bool) for value in values):
        return None
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return None


def _has(names: Sequence[str]) -> str:
    return f"The labels are in {counted(len(names), 'column')}: {listed(list(names))}."
