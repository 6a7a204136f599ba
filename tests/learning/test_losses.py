"""Losses by name, and torch's own recognised as what they are."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from regraft.errors import TrainError
from regraft.learning.losses import (
    LOSSES,
    WeightedLabels,
    all_finite,
    balanced_weights,
    known_loss,
    name_of_loss,
    refuse_unknown_losses,
    unweighted,
)

LOGITS, LABELS = torch.randn(7, 4), torch.tensor([0, 1, 2, 3, 1, -100, 2])


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (nn.CrossEntropyLoss(ignore_index=255), "cross_entropy"),
        (F.cross_entropy, "cross_entropy"),
        (partial(F.cross_entropy, label_smoothing=0.1), "cross_entropy"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), "binary_cross_entropy"),
        (F.binary_cross_entropy_with_logits, "binary_cross_entropy"),
        (nn.SmoothL1Loss(), "huber"),
        (F.l1_loss, "mean_absolute_error"),
        *((name, name) for name in LOSSES),
    ],
)
def test_a_loss_of_torch_is_known(loss, name):
    assert known_loss(loss).name == name
    assert name_of_loss(loss) == name


def test_the_losses_of_the_user_are_theirs():
    class Focal(nn.CrossEntropyLoss):
        """A subclass may compute anything."""

    for loss in (Focal(), lambda outputs, labels: outputs.sum(), nn.BCELoss()):
        assert known_loss(loss) is None
    assert name_of_loss(Focal()) == "Focal"


def test_unknown_losses_are_answered_with_the_right_ones():
    with pytest.raises(TrainError, match=r"no loss 'crossentropy'. Did you mean 'cross_entropy'"):
        refuse_unknown_losses("crossentropy")
    with pytest.raises(TrainError, match="The loss is 3, expected a name or a function"):
        refuse_unknown_losses({"a": 3})


@pytest.mark.parametrize(
    "settings",
    [{}, {"weight": torch.tensor([1.0, 2.0, 0.5, 3.0])}, {"label_smoothing": 0.2},
     {"weight": torch.tensor([1.0, 2.0, 0.5, 3.0]), "label_smoothing": 0.2}],
    ids=["plain", "weights", "smoothing", "both"],
)  # fmt: skip
def test_the_loss_of_two_batches_is_that_of_both_together(settings):
    """By what each mean is divided by: ignored labels and class weights included."""
    loss = known_loss(nn.CrossEntropyLoss(**settings))
    halves = [(LOGITS[:2], LABELS[:2]), (LOGITS[2:], LABELS[2:])]
    total = sum(float(loss(*half) * loss.total_weight(half[1])) for half in halves)
    weight = sum(float(loss.total_weight(half[1])) for half in halves)
    expected = F.cross_entropy(LOGITS, LABELS, **settings)
    assert total / weight == pytest.approx(float(expected), rel=1e-6)  # float32 sums in another order


@pytest.mark.parametrize("name", ["binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber"])
def test_a_loss_of_numbers_is_divided_by_all_of_them(name):
    loss, labels = known_loss(name), torch.rand(7, 4)
    assert loss.total_weight(labels) == 28
    soft = known_loss("cross_entropy")
    assert soft.total_weight(labels.softmax(1)) == 7


def test_weights_of_examples_are_a_weighted_mean():
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0, 9.0, 0.5])
    got = known_loss("cross_entropy").weighted(LOGITS, LABELS, weights)
    each = F.cross_entropy(LOGITS, LABELS, reduction="none")
    known = LABELS != -100
    assert float(got) == pytest.approx(float((each * weights).sum() / (weights * known).sum()), rel=1e-6)


def test_few_classes_are_computed_by_columns_with_the_same_result():
    plain, labels = known_loss("cross_entropy"), torch.randint(3, (500,))
    logits = torch.randn(500, 3)
    assert torch.allclose(plain(logits, labels), F.cross_entropy(logits, labels), atol=1e-6)  # another order of sums


def test_balanced_weights_are_those_of_scikit_learn():
    labels = torch.tensor([0, 0, 0, 1, 2, 2, -100])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[:-1].numpy())
    assert balanced_weights(labels, 3).tolist() == pytest.approx(expected.tolist())
    assert balanced_weights(torch.tensor([0, 2]), 3)[1] == 0


def test_labels_come_without_their_weights():
    assert unweighted(WeightedLabels(LABELS, torch.ones(7))) is LABELS
    assert unweighted(LABELS) is LABELS
    assert all_finite([torch.ones(2)])
    assert not all_finite([torch.tensor([float("inf")])])


@pytest.mark.parametrize("name", LOSSES)
def test_the_settings_of_a_loss_tell_it_from_others(name):
    """Class weights among them."""
    loss = known_loss(name)
    assert loss.settings == known_loss(name).settings
    assert "'reduction': 'mean'" in loss.settings
    weighted = known_loss(nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0])))
    assert "'pos_weight': [2.0]" in weighted.settings
