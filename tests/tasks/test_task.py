"""The contract's own helpers."""

import torch

from regraft.tasks.kinds import TASKS
from regraft.tasks.task import Task, example_of, first_row


def test_every_task_keeps_the_contract():
    for task in TASKS.values():
        assert isinstance(task, Task)
        assert task.loss
        assert task.metrics


def test_an_example_is_named_by_its_index_in_the_data_set():
    assert example_of(1, None) == 1
    assert example_of(1, torch.tensor([4, 9])) == 9
    assert first_row(torch.tensor([[False, False], [False, True]])) == 1
