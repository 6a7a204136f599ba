"""What is asked for, and the objective that it becomes."""

import copy
import pickle

import pytest
import torch
from torch import nn

from regraft.errors import DataError, TrainError
from regraft.learning.request import Request, WeightedLoss, remember, remembered
from regraft.tasks.kinds import as_task

LOGITS, LABELS = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 0])


def module_of(objective):
    return objective.parts[0].loss.module


def test_class_weights_and_smoothing_are_settings_of_cross_entropy():
    loss = module_of(
        Request(loss=WeightedLoss(class_weights="balanced", label_smoothing=0.1)).objective(
            LOGITS, LABELS, every=LABELS
        )
    )
    assert loss.weight.tolist() == pytest.approx([0.5, 2, 2])
    assert loss.label_smoothing == 0.1
    assert module_of(Request(loss=WeightedLoss(class_weights=[1, 2, 3])).objective(LOGITS, LABELS)).weight.tolist() == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"class_weights": [1.0, 2.0]}, r"shape \(2,\), expected 3 numbers"),
        ({"class_weights": "even"}, "class_weights is 'even', expected \"balanced\""),
        ({"class_weights": "balanced"}, "counts all labels, and this data set gives them one by one"),
        ({"class_weights": [1.0, 1, 1], "loss": nn.CrossEntropyLoss()}, "settings of cross-entropy by name"),
        ({"class_weights": [1.0, 1, 1], "loss": lambda o, _: o.sum()}, "and label_smoothing are settings"),
        ({"sample_weights": [1, 1, 1], "loss": lambda o, _: o}, "sample_weights cannot be used with a function of"),
        ({"loss": {"a": "huber"}}, "The loss is a dictionary of a, and the labels are one tensor"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(settings, text):
    with pytest.raises((TrainError, DataError), match=text):
        Request(loss=WeightedLoss(**settings)).objective(LOGITS, LABELS)


def test_an_unknown_metric_is_refused():
    with pytest.raises(TrainError, match="no metric 'auc'"):
        Request(metrics=["auc"]).objective(LOGITS, LABELS)


def test_unknown_names_are_refused_at_once():
    with pytest.raises(TrainError, match="no task 'classes'"):
        Request(task="classes")
    with pytest.raises(TrainError, match="no loss 'mse'"):
        Request(loss="mse")


def test_the_label_that_a_loss_ignores_is_that_of_its_task_and_the_other_way_round():
    outputs, labels = torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
    made = Request(loss=nn.CrossEntropyLoss(ignore_index=255)).objective(outputs, labels)
    assert (made.task.name, made.task.ignore) == ("segmentation", 255)
    made = Request(task=as_task("segmentation", ignore=7)).objective(outputs, labels)
    assert module_of(made).ignore_index == 7


def test_a_loss_of_the_user_has_no_task_but_that_of_class_numbers():
    def own(outputs, labels):
        return outputs.sum()

    assert Request(loss=own).objective(LOGITS, LABELS).task.name == "classification"
    assert Request(loss=own).objective(LOGITS, LOGITS).task is None
    assert Request(loss=own).objective(LOGITS, {"a": LABELS}).task is None
    assert Request(task="multilabel", loss=own).objective(LOGITS, LOGITS).task.name == "multilabel"


def test_several_outputs_have_a_loss_each():
    outputs, labels = {"a": LOGITS, "b": LOGITS}, {"a": LABELS, "b": torch.randn(6, 3)}
    made = Request(loss={"b": "huber"}).objective(outputs, labels)
    assert [part.name for part in made.parts] == ["cross_entropy", "huber"]
    with pytest.raises(TrainError, match="losses for c, and the tasks are a, b"):
        Request(loss={"c": "huber"}).objective(outputs, labels)


def test_how_a_model_was_trained_is_remembered_and_functions_are_let_go():
    model = nn.Linear(2, 3)
    assert remembered(model) is None
    remember(model, Request(loss=WeightedLoss(label_smoothing=0.1)).objective(LOGITS, LABELS), ["a", "b", "c"])
    assert remembered(model).known.label_smoothing == 0.1
    assert remembered(model).classes == ("a", "b", "c")
    remember(model, Request(loss=lambda o, _: o.sum()).objective(LOGITS, LABELS), ())
    assert remembered(model).known is None
    assert remembered(model).loss_name == "<lambda>"


def test_copies_and_pickles_of_a_model_keep_how_it_was_trained():
    model = nn.Linear(2, 3)
    remember(model, Request(loss="cross_entropy").objective(LOGITS, LABELS), ["a", "b", "c"])

    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # our own
        assert remembered(same).loss_name == remembered(model).loss_name
        assert remembered(same).classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("task", "loss", "labels", "words"),
    [
        ("multilabel", "cross_entropy", torch.ones(2, 3), "The loss is cross_entropy, and the task is multilabel"),
        ("regression", nn.CrossEntropyLoss(), torch.ones(2, 3), "the task is regression"),
        ("classification", "huber", torch.zeros(2).long(), "learned by cross_entropy"),
    ],
)
def test_a_loss_of_another_task_is_refused(task, loss, labels, words):
    """It would train something else than what is scored and predicted."""
    with pytest.raises(TrainError, match=words):
        Request(task, loss).objective(torch.randn(2, 3), labels)


def test_a_loss_of_another_task_is_refused_for_a_part():
    outputs, labels = {"a": torch.randn(2, 3)}, {"a": torch.zeros(2).long()}
    with pytest.raises(TrainError, match="The loss of a is huber"):
        Request({"a": "classification"}, {"a": "huber"}).objective(outputs, labels)
