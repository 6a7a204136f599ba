"""Labels from the columns of a table."""

from pathlib import Path

import pytest

from regraft.datasets.labelled import Target
from regraft.datasets.targets import targets_of
from regraft.errors import DataError

TABLE = Path("t.csv")


@pytest.mark.parametrize(
    ("columns", "target", "task", "classes", "values"),
    [
        ({"label": ["b", "a", "b"]}, Target(), "classification", ("a", "b"), [1, 0, 1]),
        ({"label": ["1", "0", "1"]}, Target(), "classification", ("0", "1"), [1, 0, 1]),
        ({"label": [True, False]}, Target(), "classification", ("False", "True"), [1, 0]),
        ({"age": ["5", "10", "30"]}, Target("classification", None, ("age",)), "classification", ("5", "10", "30"),
         [0, 1, 2]),
        ({"age": ["5", "10", "30"]}, Target("regression", None, ("age",)), "regression", (), [5, 10, 30]),
        ({"label": ["1.5", "2"]}, Target(), "regression", (), [1.5, 2]),
        ({"x": ["1", "2"], "y": ["3", "4.5"]}, Target(columns=("x", "y")), "regression", (), [[1, 3], [2, 4.5]]),
        ({"red": ["1", "0"], "round": ["1", "1"]}, Target(columns=("red", "round")), "multilabel", ("red", "round"),
         [[1, 1], [0, 1]]),
        ({"labels": [["b"], [], ["a", "b"]]}, Target(), "multilabel", ("a", "b"), [[0, 1], [0, 0], [1, 1]]),
        ({"tags": ["b; a", "b"]}, Target(separator=";"), "multilabel", ("a", "b"), [[1, 1], [0, 1]]),
        ({"label": ["a"]}, Target("classification", ("b", "a")), "classification", ("b", "a"), [1]),
    ],
)  # fmt: skip
def test_labels_are_what_they_say_they_are(columns, target, task, classes, values):
    """Names, yes and no, lists, fractions; numbers as classes only from 0 to n - 1, or where the task says so."""
    labels, known = targets_of(TABLE, columns, target)
    assert (known.task, known.classes, labels.tolist()) == (task, classes, values)
    again, same = targets_of(TABLE, columns, known)
    assert (again.tolist(), same) == (values, known)


@pytest.mark.parametrize(
    ("columns", "target", "words"),
    [
        ({"age": ["5", "10", "30"]}, Target(columns=("age",)),
         r"(?s)numbers such as 5, 10, 30\. They may be classes.*task=\"regression\".*task=\"classification\""),
        ({"label": [1, 2, 3]}, Target(), "only you know which"),
        ({"label": ["a", " "]}, Target(), "1 row has no label, the first in line 3"),
        ({"a": ["x"], "b": ["7"]}, Target(columns=("a", "b")), r'(?s)such as 7.*task=\{"a": "class.*"b": "…"\}'),
        ({"labels": ["red round"]}, Target("multilabel"), r"expected a list of labels.*\n.*separator"),
        ({"a": ["1"], "b": ["2"]}, Target("multilabel", None, ("a", "b")), "b has the value '2'; expected 0 or 1"),
        ({"label": ["old"]}, Target("regression"), "label of row 1 is 'old', expected a number"),
        ({"label": ["c"]}, Target("classification", ("a", "b")), "c is not a class of the training data"),
        ({"labels": [["c"]]}, Target("multilabel", ("a", "b")), "c is not a class of the training data"),
        ({"x": [1]}, Target(), "has 0 columns named label or class"),
        ({"x": [1]}, Target(columns=("y",)), "has no column 'y'"),
        ({"label": ["a"]}, Target("segmentation"), "takes no column of labels"),
    ],
)  # fmt: skip
def test_labels_that_leave_a_doubt_are_refused(columns, target, words):
    """A column of ages is never a list of class names."""
    with pytest.raises(DataError, match=words):
        targets_of(TABLE, columns, target)


def test_columns_of_names_are_several_tasks():
    """Each column by its own names, and further data by the same ones."""
    columns = {"kind": ["car", "bus"], "size": ["l", "s"]}
    labels, target = targets_of(TABLE, columns, Target(columns=("kind", "size")))
    assert (target.task, target.given_task) == ("several", {"kind": "classification", "size": "classification"})
    assert [part.classes for part in target.parts] == [("bus", "car"), ("l", "s")]
    assert {name: int(value) for name, value in labels[0].items()} == {"kind": 1, "size": 0}
    again, _ = targets_of(TABLE, {"kind": ["car"], "size": ["s"]}, target)
    assert (len(again), int(again[0]["kind"]), int(again[0]["size"])) == (1, 1, 1)


def test_an_empty_cell_has_none_of_several_labels():
    """With a separator; a single column of 0 and 1 is one yes or no."""
    labels, target = targets_of(TABLE, {"tags": ["a;b", "", "b"]}, Target(columns=("tags",), separator=";"))
    assert target.classes == ("a", "b")
    assert labels.tolist() == [[1, 1], [0, 0], [0, 1]]
    labels, target = targets_of(TABLE, {"sold": ["1", "0", "true"]}, Target("multilabel", columns=("sold",)))
    assert (labels.tolist(), target.classes) == ([[1], [0], [1]], ("sold",))


def test_a_column_that_is_named_twice_is_refused():
    with pytest.raises(DataError, match="the labels name a more than once"):
        targets_of(TABLE, {"a": ["x"], "b": ["y"]}, Target(columns=("a", "b", "a")))
