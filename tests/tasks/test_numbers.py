"""Labels of the outputs' shape."""

import pytest
import torch

from regraft.errors import DataError
from regraft.tasks.kinds import as_task
from regraft.tasks.numbers import known_positions, refuse_misfit, reshaped


def test_a_dimension_of_one_does_not_matter():
    outputs, labels = reshaped(torch.zeros(3, 1), torch.tensor([1, 2, 3]))
    assert labels.shape == outputs.shape
    refuse_misfit(as_task("regression"), torch.zeros(3, 1), torch.zeros(3))


def test_rows_are_never_mixed_up_with_columns():
    """(3, 2) and (2, 3) have as many values, and mean something else."""
    with pytest.raises(DataError, match="give both the same shape"):
        refuse_misfit(as_task("regression"), torch.zeros(3, 2), torch.zeros(2, 3))


def test_not_a_number_may_mark_what_is_not_known():
    outputs, labels = known_positions(torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), 3.0]), float("nan"))
    assert outputs.tolist() == [2.0]
    assert labels.tolist() == [3.0]
