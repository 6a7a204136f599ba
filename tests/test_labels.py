"""Labels of any structure as columns."""

import numpy as np
import pytest
import torch

from regraft.errors import DataError
from regraft.labels import (
    batch_of,
    class_names,
    count_of,
    fill_of,
    filled,
    joined,
    label_columns,
    renumbered,
    same_labels,
    subset_of,
    whole_labels,
)
from regraft.tensors.ragged import Ragged


def test_numbers_sequences_and_several_targets_become_columns():
    columns = label_columns([{"kind": 1, "age": 3.5, "tags": [1, 2]}, {"kind": 0, "age": 1.0, "tags": [3]}])
    assert columns["kind"].tolist() == [1, 0]
    assert columns["age"].tolist() == [3.5, 1.0]
    assert filled(columns)["tags"].tolist() == [[1, 2], [3, -100]]
    assert count_of(columns) == 2


def test_missing_positions_of_numbers_are_no_numbers():
    assert filled(label_columns([torch.ones(1), torch.ones(2)]))[0].isnan().tolist() == [False, True]
    assert fill_of(torch.zeros(1, dtype=torch.int64)) == -100


def test_texts_are_numbered_by_the_classes():
    assert label_columns(["b", "a"], ["a", "b"]).tolist() == [1, 0]
    assert label_columns([["b", "a"], ["a", "a"]], ["a", "b"]).tolist() == [[1, 0], [0, 0]]
    with pytest.raises(DataError, match=r"labels are texts, such as 'b'[\s\S]*Pass classes="):
        label_columns(["b", "a"])
    with pytest.raises(DataError, match=r"label 'bb' is none of the 2 classes\. Did you mean 'b'"):
        label_columns(["bb"], ["a", "b"])


def test_the_texts_of_a_whole_list_are_sorted():
    labels, classes = whole_labels(["dog", "cat", "dog"])
    assert (labels.tolist(), classes) == ([1, 0, 1], ("cat", "dog"))
    labels, classes = whole_labels(np.array(["10", "2"]))
    assert (labels.tolist(), classes) == ([1, 0], ("2", "10"))
    assert class_names(["10", "9", "10"]) == ["9", "10"]
    assert whole_labels(np.arange(3))[0].tolist() == [0, 1, 2]


def test_rows_are_taken_and_joined_without_what_fills_them_up():
    ragged = label_columns([[1], [2, 3], [4, 5, 6]])
    assert isinstance(ragged, Ragged)
    assert batch_of(ragged, torch.tensor([1, 0])).tolist() == [[2, 3], [1, -100]]
    both = joined([subset_of(ragged, torch.tensor([2])), subset_of(ragged, torch.tensor([0]))])
    assert filled(both).tolist() == [[4, 5, 6], [1, -100, -100]]
    assert filled(joined([torch.zeros(1, 2).long(), torch.ones(1, 3).long()])).tolist() == [[0, 0, -100], [1, 1, 1]]


def test_labels_are_compared_value_by_value():
    nan = torch.tensor([float("nan")])
    assert same_labels({"a": nan}, {"a": nan.clone()})
    assert not same_labels(label_columns([[1], [2, 3]]), label_columns([[1], [2, 4]]))
    assert not same_labels(torch.zeros(2), torch.zeros(3))


def test_numbers_follow_the_names_of_other_classes():
    assert renumbered(torch.tensor([0, 1, -100]), ["b", "c"], ["a", "b", "c"]).tolist() == [1, 2, -100]
    with pytest.raises(DataError, match="label 'd' is none of the 1 classes"):
        renumbered(torch.tensor([0]), ["d"], ["a"])


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([{"a": 1}, {"b": 1}], "different parts"),
        ([(1, 2), (1,)], "different parts"),
        ([object()], "label of an example is a object; expected a number, a text"),
        ([torch.zeros(1), torch.zeros(1, 1)], "Labels have 1, 2 dimensions"),
    ],
)
def test_labels_that_are_not_alike_are_refused(labels, text):
    with pytest.raises(DataError, match=text):
        label_columns(labels)
