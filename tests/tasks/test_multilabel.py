"""Yes or no for each output."""

import pytest
import torch

from regraft.errors import DataError
from regraft.tasks.kinds import as_task

TASK = as_task("multilabel")


def test_outputs_are_answered_by_their_sigmoid():
    assert torch.equal(TASK.probabilities(torch.zeros(2, 3)), torch.full((2, 3), 0.5))


def test_one_output_fits_labels_of_one_dimension():
    outputs, labels = TASK.aligned(torch.zeros(4, 1), torch.tensor([0, 1, 1, 0]))
    assert outputs.shape == labels.shape == (4, 1)
    assert labels.dtype == torch.float32


def test_labels_that_are_not_known_are_left_out():
    task = as_task("multilabel", ignore=-100)
    labels = torch.tensor([[0, 1, -100], [1, -100, 1]])

    outputs, known = task.aligned(torch.randn(2, 3), labels)
    _, pairs = task.pairs(torch.randn(2, 3), labels)

    assert outputs.shape == (4,)
    assert known.tolist() == [0, 1, 1, 1]
    assert pairs.tolist() == [[0, 1, -1], [1, -1, 1]]


def test_soft_labels_have_no_pairs():
    assert TASK.pairs(torch.zeros(1, 2), torch.tensor([[0.3, 1.0]])) is None


def test_a_label_beside_yes_and_no_is_named():
    check = TASK.check(torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(DataError, match="Example 1 has the label 2, and multilabel takes 0 and 1"):
        check.look(torch.tensor([[0, 1], [2, 0]]))
    as_task("multilabel", ignore=2).check(torch.zeros(2, 2), torch.zeros(2, 2)).look(torch.tensor([[2, 0]]))


def test_labels_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"labels have the shape \(2, 3\), and the outputs \(2, 2\)"):
        TASK.check(torch.zeros(2, 2), torch.zeros(2, 3))
