"""Numbers as labels."""

import pytest
import torch

from regraft.errors import DataError
from regraft.tasks.kinds import as_task

TASK = as_task("regression")


def test_outputs_are_the_answers():
    outputs = torch.randn(3, 1)
    assert TASK.probabilities(outputs) is outputs
    assert TASK.size(outputs) == 1


def test_one_target_is_compared_in_a_line_and_several_by_column():
    assert TASK.pairs(torch.zeros(3, 1), torch.zeros(3))[0].shape == (3,)
    assert TASK.pairs(torch.zeros(3, 2), torch.zeros(3, 2))[0].shape == (3, 2)


def test_a_label_that_is_no_number_is_named():
    check = TASK.check(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(DataError, match="Example 1 has the label nan, expected a number"):
        check.look(torch.tensor([0.0, float("nan")]))
    as_task("regression", ignore=float("nan")).check(torch.zeros(2, 1), torch.zeros(2)).look(
        torch.tensor([0.0, float("nan")])
    )
