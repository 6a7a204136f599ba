"""Labels in arrays."""

from pathlib import Path

import numpy as np
import pytest

from regraft.datasets.array_labels import labels_from
from regraft.datasets.labelled import Target
from regraft.errors import DataError

FILE = Path("a.npz")


@pytest.mark.parametrize(
    ("labels", "target", "task", "classes"),
    [
        (np.array([0, 2, 1]), Target(), "classification", ("0", "1", "2")),
        (np.array([0.5, 2.0]), Target(), "regression", ()),
        (np.array([5, 30]), Target("regression"), "regression", ()),
        (np.array([[0.5, 2.0], [1, 1]]), Target(), "regression", ()),
        (np.array([[0, 1], [1, 1]]), Target(), "multilabel", ("0", "1")),
        (np.array([[0, 1, -100], [1, 1, 0]]), Target("token-classification"), "token-classification", ("0", "1")),
        (np.array([[[0, 1], [1, 0]]]), Target("segmentation"), "segmentation", ("0", "1")),
    ],
)
def test_type_and_shape_say_what_labels_are(labels, target, task, classes):
    """Or the task does."""
    values, known = labels_from(FILE, labels, None, target)
    assert (known.task, known.classes, values.tolist()) == (task, classes, labels.tolist())


def test_positions_without_a_label_stay_so_under_other_names():
    """-100 is no class."""
    values, _ = labels_from(FILE, np.array([[0, 1, -100]]), ("x", "y"), Target("token-classification", ("y", "x")))
    assert values.tolist() == [[1, 0, -100]]


@pytest.mark.parametrize(
    ("labels", "target", "words"),
    [
        (np.array([[3, 1], [2, 2]]), Target(), r"labels are int64 of shape \(2, 2\).*token-classification"),
        (np.array([0.0, 1.0]), Target(), "expected integers"),
        (np.array([0.5, np.nan]), Target("regression"), "finite numbers"),
        (np.array([0.5]), Target("classification"), "needs integers, one for each example"),
        (np.array([1, 2]), Target("multilabel"), "rows of 0 and 1"),
        (np.array([[0, 1]]), Target("multilabel", ("a", "b", "c")), "has 2 columns of labels"),
        (np.array([1, 2]), Target("language-model"), "takes no array of labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, target, words):
    """With their type and shape."""
    with pytest.raises(DataError, match=f"(?s){words}"):
        labels_from(FILE, labels, None, target)
