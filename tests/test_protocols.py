"""Cross-validation, seeds and learning curves on one cache."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_score
from torch import nn

from regraft.errors import DataError
from regraft.evaluating import evaluate
from regraft.learning.request import WeightedLoss
from regraft.learning.solvers import Exact, Steps
from regraft.protocols import cross_validate, learning_curve, spread_of
from regraft.training import train
from small_models import features_of, frozen_model, head_of, same_weights, three_classes, weights_of


def noisy(count=90):
    inputs, labels = three_classes(count)
    return inputs + torch.randn(count, 4, generator=torch.Generator().manual_seed(1)), labels


def test_folds_and_scores_are_those_of_scikit_learn():
    """The exact optimum of a linear head is scikit-learn's, fold by fold."""
    inputs, labels = noisy()
    model = nn.Linear(4, 3)
    before = weights_of(model)

    got = cross_validate(model, (inputs, labels), folds=5, solver=Exact(weight_decay=1 / 72))

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = cross_val_score(LogisticRegression(max_iter=2000), inputs.numpy(), labels.numpy(), cv=folds)
    assert got.spread("accuracy").values == pytest.approx(expected.tolist())
    assert got.spread("accuracy").standard_error == pytest.approx(expected.std(ddof=1) / np.sqrt(5))
    assert same_weights(before, weights_of(model))
    assert str(got).startswith("loss ")


def test_every_fold_begins_from_the_same_weights_on_one_cache():
    inputs, labels = noisy()
    head = head_of(frozen_model())
    features = features_of(head, inputs, labels, batch_size=64)
    solver = Steps(epochs=2, lr=0.05)

    twice = [cross_validate(head, features, folds=3, solver=solver) for _ in range(2)]

    assert twice[0] == twice[1]
    *_, (rest, left_out) = StratifiedKFold(3, shuffle=True, random_state=0).split(inputs, labels)
    alone = head_of(frozen_model())  # the last fold, without the others before it
    train(alone, features.subset(torch.from_numpy(rest)), solver=solver)
    assert evaluate(alone, features.subset(torch.from_numpy(left_out))) == twice[0].scores[-1]
    seeds = cross_validate(head, features, folds=3, repeats=2, seeds=(0, 1), solver=solver)
    assert len(seeds.scores) == 12
    assert seeds.scores[:3] == twice[0].scores


def test_groups_stay_together_and_any_splitter_is_taken():
    inputs, labels = noisy(30)
    groups = torch.arange(30) // 10
    for settings in ({"folds": 3}, {"splitter": LeaveOneGroupOut()}):
        got = cross_validate(nn.Linear(4, 3), (inputs, labels), groups=groups.numpy(), **settings)
        assert [score.count for score in got.scores] == [10, 10, 10]


def test_sample_weights_follow_their_fold():
    inputs, labels = noisy(30)
    got = cross_validate(
        nn.Linear(4, 3),
        (inputs, labels),
        folds=3,
        solver=Steps(epochs=1),
        loss=WeightedLoss(sample_weights=torch.ones(30)),
    )
    plain = cross_validate(nn.Linear(4, 3), (inputs, labels), folds=3, solver=Steps(epochs=1))
    assert len(got.scores) == len(plain.scores) == 3


def test_a_class_with_fewer_examples_than_folds_is_named():
    inputs, labels = noisy(30)
    labels[labels == 2] = 1
    labels[0] = 2
    with pytest.raises(DataError, match="5 folds need 5 examples of each class, and class 2 has 1"):
        cross_validate(nn.Linear(4, 3), (inputs, labels))


def test_a_curve_has_the_classes_in_proportion():
    inputs, labels = noisy()
    counted = []

    def count(model, seed):
        counted.append(seed)

    head = head_of(frozen_model())
    features = features_of(head, inputs, labels, batch_size=64)
    got = learning_curve(
        head, features.subset(torch.arange(60)), features.subset(torch.arange(60, 90)), counts=(6, 60), seeds=(0, 1),
        solver=Steps(epochs=2), before_each=count,
    )  # fmt: skip
    assert got.counts == (6, 60)
    assert counted == [0, 1, 0, 1]
    assert len(got.spread("accuracy")) == 2
    assert "6 labels  accuracy" in str(got)
    with pytest.raises(DataError, match=r"counts has \[91\], expected numbers of labels from 1 to 90"):
        learning_curve(head, features, features, counts=(91,))


def test_a_smaller_part_is_in_the_larger_one_and_like_it():
    from regraft.protocols import _order

    labels = torch.tensor([0] * 40 + [1] * 20)
    order = _order(labels, 60, 0)
    assert sorted(order.tolist()) == list(range(60))
    assert int((labels[order[:6]] == 1).sum()) == 2


def test_one_value_has_no_error():
    assert np.isnan(spread_of(np.array([1.0])).standard_error)
