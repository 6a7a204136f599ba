"""The usual metrics from sums over batches, against scikit-learn."""

import pytest
import sklearn.metrics as sk
import torch
import torch.nn.functional as F

from regraft.learning.statistics import HIGHER_IS_BETTER, statistics_of
from regraft.tasks.kinds import as_task


def summed(task, size, scores, labels, wanted=HIGHER_IS_BETTER):
    """Counted in three batches."""
    statistics = statistics_of(as_task(task), size, wanted=wanted)
    for some in torch.arange(len(labels)).split(7):
        statistics.add(scores[some], labels[some])
    return statistics


def test_metrics_of_classes_are_those_of_scikit_learn():
    """Class 4 neither occurs nor is predicted; class 3 is predicted and does not occur."""
    scores, labels = torch.randn(20, 5), torch.arange(20) % 3
    scores[:, 4] = -9
    predicted = scores.argmax(1)
    statistics = summed("classification", 5, scores, labels)
    got = statistics.values()
    kinds = {"average": "macro", "zero_division": 0}
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert got["f1"] == pytest.approx(sk.f1_score(labels, predicted, **kinds))
    assert got["precision"] == pytest.approx(sk.precision_score(labels, predicted, **kinds))
    assert got["recall"] == pytest.approx(sk.recall_score(labels, predicted, **kinds))
    assert got["mean_iou"] == pytest.approx(sk.jaccard_score(labels, predicted, **kinds))
    assert got["perplexity"] == pytest.approx(float(F.cross_entropy(scores, labels).exp()), rel=1e-5)
    recall = sk.recall_score(labels, predicted, average=None, labels=[0, 1, 2])
    assert got["balanced_accuracy"] == pytest.approx(recall.mean())
    table = sk.precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=0)
    for number, row in enumerate(statistics.per_class()):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx([column[number] for column in table])
    assert statistics.is_mixed().tolist() == [True, True, True, False, False]


def test_a_vocabulary_has_no_table():
    statistics = summed("language-model", 2000, torch.randn(9, 2000), torch.arange(9))
    assert statistics.confusion() is None
    assert statistics.per_class() == ()
    assert list(statistics.values()) == ["accuracy", "perplexity"]


def test_metrics_of_several_labels_are_those_of_scikit_learn():
    scores, labels = torch.randn(20, 3), torch.randint(2, (20, 3))
    statistics = summed("multilabel", 3, scores, labels)
    got, predicted = statistics.values(), (scores > 0).long()
    assert got["accuracy"] == pytest.approx(float((predicted == labels).float().mean()))
    assert got["f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro", zero_division=0))
    assert statistics.per_class()[1].recall == pytest.approx(sk.recall_score(labels[:, 1], predicted[:, 1]))


def test_labels_that_are_not_known_do_not_count():
    scores, labels = torch.tensor([[9.0, 9.0], [9.0, -9.0]]), torch.tensor([[1, -1], [-1, 1]])
    statistics = summed("multilabel", 2, scores, labels)
    assert statistics.values()["accuracy"] == 0.5
    assert [row.support for row in statistics.per_class()] == [1, 1]


@pytest.mark.parametrize("targets", [1, 3])
def test_metrics_of_numbers_are_those_of_scikit_learn(targets):
    """With labels far from 0, of which a plain sum of squares would lose digits."""
    labels = 1e4 + torch.randn(20, targets, dtype=torch.float64)
    scores = labels + 0.3 * torch.randn(20, targets)
    rows = (scores[:, 0], labels[:, 0]) if targets == 1 else (scores, labels)
    got = summed("regression", targets, *rows).values()
    assert got["r2"] == pytest.approx(sk.r2_score(labels, scores))
    assert got["mean_absolute_error"] == pytest.approx(sk.mean_absolute_error(labels, scores))
    assert got["mean_squared_error"] == pytest.approx(sk.mean_squared_error(labels, scores))


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_nothing_counted_is_no_number(task):
    assert all(value != value for value in statistics_of(as_task(task), 3).values().values())


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("classification", torch.arange(20) % 3),
        ("multilabel", (torch.arange(60) % 2).view(20, 3)),
        ("regression", torch.arange(60.0).view(20, 3) + 1e4),
    ],
)
def test_sums_of_several_processes_merge_to_those_of_all_rows(task, labels):
    """One of them has seen nothing."""
    scores = torch.randn(20, 3)
    merged = statistics_of(as_task(task), 3, wanted=HIGHER_IS_BETTER)
    for rows in (slice(0, 7), slice(7, 7), slice(7, None)):
        part = statistics_of(as_task(task), 3, wanted=HIGHER_IS_BETTER)
        part.add(scores[rows], labels[rows])
        merged.merge(part)
    assert merged.values() == pytest.approx(summed(task, 3, scores, labels).values(), rel=1e-6)  # float32 sums
