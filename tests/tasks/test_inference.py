"""Which task labels and outputs make certain, and what is refused."""

import pytest
import torch
from torch import nn

from regraft.errors import DataError
from regraft.tasks.inference import infer_task

WHOLE = torch.int64


def zeros(*shape, dtype=WHOLE):
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("outputs", "labels", "task"),
    [
        (zeros(2, 3), zeros(2), "classification"),
        (zeros(2, 3), torch.full((2, 3), 1 / 3), "classification"),
        (zeros(2, 7, 3), zeros(2, 7), "token-classification"),
        (zeros(2, 4, 7, 3), zeros(2, 4, 7), "token-classification"),
        (zeros(2, 3, 4, 7), zeros(2, 4, 7), "segmentation"),
        (zeros(2, 3), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), "multilabel"),
        (zeros(2, 3), torch.tensor([[1, 1, 0], [0, 0, 0]]), "multilabel"),
        (zeros(2, 1), torch.tensor([3.5, 1.0]), "regression"),
        (zeros(2, 1), torch.tensor([31, 45]), "regression"),
        (zeros(2), torch.tensor([31, 45]), "regression"),
        (zeros(2, 3), torch.tensor([[3.5, 1.0, -2.0], [0.0, 0.0, 0.0]]), "regression"),
    ],
)
def test_what_shapes_and_values_make_certain(outputs, labels, task):
    assert infer_task(outputs, labels)[0].name == task


@pytest.mark.parametrize(
    ("outputs", "labels", "names"),
    [
        (zeros(2, 5, 5), zeros(2, 5), ["token-classification", "segmentation"]),
        (zeros(2, 1), torch.tensor([0, 1]), ["multilabel", "regression"]),
        (zeros(2, 1), torch.tensor([0.0, 1.0]), ["multilabel", "regression"]),
        (zeros(2, 3), torch.tensor([[0.2, 0.9, 0.1], [0.0, 0.0, 0.0]]), ["multilabel", "regression"]),
        (zeros(2, 3), torch.tensor([[0, 1, 0], [1, 0, 0]]), ["multilabel"]),
    ],
)
def test_what_is_open_is_refused_with_each_task_that_fits(outputs, labels, names):
    with pytest.raises(DataError, match="The task is not certain") as error:
        infer_task(outputs, labels)
    assert [advice.value for advice in error.value.advice] == names


def test_a_model_that_embeds_its_classes_may_be_a_language_model():
    model = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11))
    with pytest.raises(DataError, match="embedding of 11 tokens") as error:
        infer_task(zeros(2, 7, 11), zeros(2, 7), model=model)
    assert "language-model" in [advice.value for advice in error.value.advice]
    assert infer_task(zeros(2, 7, 3), zeros(2, 7), model=model)[0].name == "token-classification"


def test_all_labels_decide_where_they_are_at_hand():
    """The first two examples have one label each, and others have more."""
    every = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    assert infer_task(zeros(2, 3), every[:2], every=every)[0].name == "multilabel"


@pytest.mark.parametrize(
    ("loss", "task"),
    [("binary_cross_entropy", "multilabel"), ("mean_absolute_error", "regression"), ("huber", "regression")],
)
def test_a_loss_belongs_to_its_task(loss, task):
    assert infer_task(zeros(2, 1), torch.tensor([0, 1]), loss=loss)[0].name == task


def test_each_part_of_several_outputs_has_its_own_task():
    outputs = {"kind": zeros(2, 3), "age": zeros(2, 1)}
    task, reason = infer_task(outputs, {"kind": zeros(2), "age": torch.tensor([3.5, 1.0])})
    assert {name: part.name for name, part in task.tasks.items()} == {"kind": "classification", "age": "regression"}
    assert "age is regression" in reason
    with pytest.raises(DataError, match="part 'sex', and the model has no output of that name"):
        infer_task(outputs, {"sex": zeros(2)})
