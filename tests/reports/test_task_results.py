"""What the report shows of numbers, several labels, positions and tokens."""

import csv
from io import StringIO

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.metrics import f1_score, jaccard_score, mean_absolute_error, r2_score
from torch import nn

from regraft import Score, evaluate
from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.labelled import Target
from regraft.reports.task_results import task_result_of

INPUTS = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))


def parts(labels, target):
    """Twenty examples for training, ten for the test."""
    return {
        "train": ArrayExamples(INPUTS[:20], labels[:20], target),
        "test": ArrayExamples(INPUTS[20:], labels[20:], target),
    }


def result_of(model, data):
    score = evaluate(model, data["test"], task=data["train"].target.task)
    return task_result_of(model, data["test"], data, "test", score), score


def test_numbers_are_compared_with_the_mean_of_the_training_labels():
    """As scikit-learn's dummy does; answers.csv has each of them."""
    torch.manual_seed(0)
    labels = torch.stack([INPUTS[:, 0] * 3 + 1, INPUTS[:, 1]], 1)
    data, model = parts(labels, Target("regression", (), ("age", "size"))), nn.Linear(4, 2)
    result, _ = result_of(model, data)
    dummy = DummyRegressor().fit(INPUTS[:20], labels[:20]).predict(INPUTS[20:])
    assert result.baseline["mean_absolute_error"] == pytest.approx(mean_absolute_error(labels[20:], dummy), rel=1e-6)
    assert result.baseline["r2"] == pytest.approx(r2_score(labels[20:], dummy), rel=1e-5)
    predicted = model(INPUTS[20:]).detach()
    assert result.per_class["size"]["R²"] == pytest.approx(r2_score(labels[20:, 1], predicted[:, 1]), rel=1e-5)
    rows = list(csv.DictReader(StringIO(result.to_csv())))
    assert float(rows[3]["predicted age"]) == pytest.approx(float(predicted[3, 0]), rel=1e-6)
    assert [column.name for column in result.columns] == ["age", "size"]


def test_several_labels_are_compared_with_the_usual_answer_of_each():
    """By scikit-learn's F1; a row of answers.csv has the labels that apply."""
    labels = (INPUTS[:, :2] > torch.tensor([-0.5, 0.9])).float()
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[5.0, 0, 0, 0], [0, 5.0, 0, 0]]))
        model.bias.zero_()
    result, score = result_of(model, parts(labels, Target("multilabel", ("left", "up"))))
    usual = np.tile((labels[:20].mean(0) >= 0.5).int().numpy(), (10, 1))
    assert result.baseline["f1"] == pytest.approx(f1_score(labels[20:], usual, average="macro", zero_division=0))
    assert result.per_class["left"]["F1"] == score.per_class[0].f1
    assert result.answers[0] == ("name", "true", "predicted", "left", "up")


def test_positions_have_an_intersection_over_union():
    """By scikit-learn's Jaccard score; the baseline is the most frequent class."""
    true, predicted = [0, 0, 0, 1, 1, 2, 0], [0, 1, 0, 1, 1, 1, 0]
    table = np.zeros((3, 3), int)
    np.add.at(table, (true, predicted), 1)
    score = Score(5 / 7, 0.1, 7, 0.5, tuple(map(tuple, table.tolist())), {}, ())
    data = {"train": ArrayExamples(INPUTS, torch.zeros(30, 2), Target("segmentation", ("a", "b", "c")))}
    result = task_result_of(nn.Identity(), (), data, "test", score)
    always = [0] * 7
    assert result.baseline["mean_iou"] == pytest.approx(jaccard_score(true, always, average="macro"))
    assert result.baseline["f1"] == pytest.approx(f1_score(true, always, average="macro", zero_division=0))
    assert result.baseline_name == "always “a”"


def test_one_class_for_each_example_has_a_report_of_its_own():
    """Nothing is shown twice."""
    data = parts(torch.arange(30) % 2, Target("classification", ("a", "b")))
    assert result_of(nn.Linear(4, 2), data)[0] is None
