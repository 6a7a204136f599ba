"""Several outputs, each with its task."""

import pytest
import torch

from regraft.errors import DataError
from regraft.tasks.kinds import as_task
from regraft.tasks.several import Several, label_parts

TASK = as_task({"kind": "classification", "age": "regression"})
OUTPUTS = {"kind": torch.zeros(2, 3), "age": torch.zeros(2, 1), "hidden": torch.zeros(2, 9)}


def test_each_part_has_its_task_output_and_labels():
    labels = {"kind": torch.tensor([0, 2]), "age": torch.tensor([1.0, 2.0])}
    parts = {name: task.name for name, task, _, _ in TASK.parts(OUTPUTS, labels)}
    assert parts == {"kind": "classification", "age": "regression"}


def test_tuples_are_named_by_their_index():
    assert list(label_parts((torch.zeros(2), torch.ones(2)))) == ["0", "1"]
    assert label_parts(torch.zeros(2)) == {}


def test_all_that_does_not_fit_is_told_at_once():
    with pytest.raises(DataError) as error:
        list(TASK.parts({"kind": OUTPUTS["kind"]}, {"kind": torch.zeros(2), "sex": torch.zeros(2)}))
    assert "no output 'age'" in str(error.value)
    assert "the labels have no part 'age'" in str(error.value)
    assert "no task is given for the labels 'sex'" in str(error.value)


def test_a_wrong_label_is_named_with_its_part():
    check = TASK.check(OUTPUTS, {"kind": torch.tensor([0, 1]), "age": torch.tensor([0.0, 1.0])})
    with pytest.raises(DataError, match="Labels 'kind': Example 1 has the label 7"):
        check.look({"kind": torch.tensor([0, 7]), "age": torch.tensor([0.0, 1.0])})
    check.look({"kind": torch.tensor([0, 0]), "age": torch.tensor([0.0, 1.0])})
    with pytest.raises(DataError, match="Labels 'kind': All examples have the label 0"):
        check.finish()


def test_weights_belong_to_tasks():
    with pytest.raises(DataError, match="weights for sex, and the tasks are kind, age"):
        Several(TASK.tasks, {"sex": 1.0})
