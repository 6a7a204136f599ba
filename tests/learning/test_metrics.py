"""Metrics by name and as torchmetrics objects."""

import math

import pytest
import sklearn.metrics as sk
import torch
import torchmetrics

from regraft.errors import TrainError
from regraft.learning.metrics import (
    MetricSet,
    constructed,
    higher_is_better,
    metric_sets,
    name_of,
    refuse_unknown_metrics,
)
from regraft.tasks.kinds import as_task


def valued(task, metrics, outputs, labels):
    """The values after two batches."""
    one = MetricSet(as_task(task), metrics)
    for some in torch.arange(len(labels)).split(11):
        one.add(outputs[some], labels[some])
    return one.values()


def test_curves_are_those_of_scikit_learn():
    outputs, labels = torch.randn(30, 3), torch.arange(30) % 3
    got = valued("classification", ["auroc", "average_precision"], outputs, labels)
    probabilities, hot = outputs.softmax(1), torch.nn.functional.one_hot(labels)
    expected = sk.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert got["auroc"] == pytest.approx(expected, rel=1e-5)
    assert got["average_precision"] == pytest.approx(sk.average_precision_score(hot, probabilities), rel=1e-5)


def test_a_class_that_does_not_occur_has_no_curve():
    """torchmetrics alone counts it as 0."""
    outputs, labels = torch.randn(30, 3), torch.arange(30) % 2
    got = valued("classification", ["auroc"], outputs, labels)["auroc"]
    each = [sk.roc_auc_score(labels == c, outputs.softmax(1)[:, c]) for c in (0, 1)]
    assert got == pytest.approx(sum(each) / 2, rel=1e-5)


def test_several_labels_have_their_mean_average_precision():
    outputs, labels = torch.randn(30, 4), torch.randint(2, (30, 4))
    got = valued("multilabel", ["average_precision", "auroc"], outputs, labels)
    assert got["average_precision"] == pytest.approx(sk.average_precision_score(labels, outputs), rel=1e-5)
    assert got["auroc"] == pytest.approx(sk.roc_auc_score(labels, outputs), rel=1e-5)


def test_logits_between_0_and_1_are_logits_all_the_same():
    """torchmetrics applies a sigmoid only to values beyond: small logits would be taken for probabilities."""
    outputs, labels = torch.rand(20, 2) * 0.4, torch.ones(20, 2, dtype=torch.int64)
    assert valued("multilabel", [torchmetrics.classification.MultilabelAccuracy(2)], outputs, labels) == {
        "MultilabelAccuracy": 1.0
    }


def test_any_object_of_torchmetrics_is_taken_and_left_alone():
    outputs, labels = torch.randn(20, 2), torch.arange(20) % 2
    mine = torchmetrics.classification.BinaryF1Score()
    got = valued("classification", {"mine": mine, "kappa": "cohen_kappa", "also": "f1"}, outputs, labels)
    predicted = outputs.argmax(1)
    assert got["mine"] == pytest.approx(sk.f1_score(labels, predicted), rel=1e-5)
    assert got["kappa"] == pytest.approx(sk.cohen_kappa_score(labels, predicted), rel=1e-5)
    assert got["also"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"), rel=1e-5)
    assert not mine.update_called


def test_perplexity_is_that_of_torchmetrics():
    outputs, ids = torch.randn(4, 6, 11), torch.randint(11, (4, 6))
    ids[0, 4:] = -100
    task = as_task("language-model")
    one = MetricSet(task, ["perplexity", torchmetrics.text.Perplexity()])
    one.add(outputs, ids)
    reference = torchmetrics.text.Perplexity(ignore_index=-100)
    reference.update(outputs[:, :-1], ids[:, 1:])
    assert one.values()["perplexity"] == pytest.approx(float(reference.compute()), rel=1e-5)
    assert one.values()["Perplexity"] == pytest.approx(float(reference.compute()), rel=1e-5)


def test_numbers_take_any_regression_metric():
    outputs, labels = torch.randn(20, 1), torch.randn(20)
    got = valued("regression", ["r2", "pearson_corr_coef"], outputs, labels)
    assert got["r2"] == pytest.approx(sk.r2_score(labels, outputs[:, 0]), rel=1e-5)
    assert -1 <= got["pearson_corr_coef"] <= 1


def test_labels_without_pairs_have_no_value():
    assert all(
        map(math.isnan, valued("classification", ["accuracy"], torch.zeros(2, 3), torch.ones(2, 3) / 3).values())
    )


def test_more_is_better_or_not():
    task = as_task("classification")
    assert higher_is_better("f1", None, task)
    assert not higher_is_better("perplexity", None, as_task("language-model"))
    assert higher_is_better("auroc", ["auroc"], task)
    assert higher_is_better("kind.accuracy", None, as_task({"kind": "classification"}))
    with pytest.raises(TrainError, match="no metric 'f2' to monitor"):
        higher_is_better("f2", ["auroc"], task)


def test_unknown_metrics_are_refused_before_training():
    with pytest.raises(TrainError, match=r"no metric 'auc' for the task classification\. Did you mean 'auroc'"):
        refuse_unknown_metrics(as_task("classification"), ["auc"])
    with pytest.raises(TrainError, match="Metrics of several tasks are a dictionary by their names: kind"):
        metric_sets(as_task({"kind": "classification"}), ["f1"])
    with pytest.raises(TrainError, match="Metrics need a task"):
        metric_sets(None, ["f1"])
    assert metric_sets(None, None) == {}
    assert name_of("f1") == "f1"


def test_a_metric_of_another_task_says_what_does_not_fit():
    with pytest.raises(TrainError, match=r"The metric MulticlassF1Score \(MulticlassF1Score\) cannot take outputs"):
        valued("regression", [torchmetrics.classification.MulticlassF1Score(3)], torch.randn(9, 1), torch.randn(9))


def test_the_class_of_torchmetrics_depends_on_the_task():
    assert type(constructed("auroc", as_task("multilabel"), 1)).__name__ == "BinaryAUROC"
    assert type(constructed("mean_iou", as_task("segmentation"), 3)).__name__ == "MulticlassJaccardIndex"


def test_sets_of_several_processes_merge_to_that_of_all_batches():
    """Names and objects; a process without a batch adds nothing."""
    outputs, labels = torch.randn(30, 3), torch.arange(30) % 3
    metrics = ["f1", "auroc", torchmetrics.classification.MulticlassCohenKappa(3)]
    merged = MetricSet(as_task("classification"), metrics)
    for rows in (slice(0, 0), slice(0, 11), slice(11, None)):
        part = MetricSet(as_task("classification"), metrics)
        if rows.stop != 0:
            part.add(outputs[rows], labels[rows])
        merged.merge(part.statistics, part.objects)
    assert merged.values() == pytest.approx(valued("classification", metrics, outputs, labels))


def test_a_metric_that_cannot_be_merged_is_named():
    """torchmetrics says which: those that need all values at once."""
    metrics = [torchmetrics.regression.PearsonCorrCoef()]
    first, second = (MetricSet(as_task("regression"), metrics) for _ in range(2))
    for one in (first, second):
        one.add(torch.randn(5, 1), torch.randn(5, 1))
    with pytest.raises(TrainError, match=r"PearsonCorrCoef\) cannot be computed by several processes"):
        first.merge(second.statistics, second.objects)
