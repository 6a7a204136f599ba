"""The loss of a batch, part by part."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.learning.losses import WeightedLabels, known_loss
from regraft.learning.objective import LossPart, Objective, watched_of
from regraft.tasks.kinds import as_task

LOGITS, LABELS = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
PLAIN = LossPart(known_loss("cross_entropy"), as_task("classification"))


def test_one_part_is_its_loss():
    objective = Objective(as_task("classification"), (PLAIN,))
    assert torch.equal(objective(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))
    assert objective.weight(LABELS) == 5
    assert objective.is_plain_cross_entropy
    assert objective.counts_examples
    assert not objective.is_own
    assert str(objective) == "task: classification, as passed; loss: cross_entropy"


def test_several_parts_are_added_up():
    kind = LossPart(known_loss("cross_entropy"), as_task("classification"), "kind", factor=2.0)
    age = LossPart(known_loss("huber"), as_task("regression"), "age")
    objective = Objective(as_task({"kind": "classification", "age": "regression"}), (kind, age))
    outputs, labels = {"kind": LOGITS, "age": torch.randn(5, 1)}, {"kind": LABELS, "age": torch.randn(5)}

    got = objective(outputs, labels)

    expected = 2 * F.cross_entropy(LOGITS, LABELS) + F.huber_loss(outputs["age"][:, 0], labels["age"])
    assert torch.allclose(got, expected)
    assert objective.name == "kind cross_entropy, age huber"
    assert not objective.is_plain_cross_entropy


def test_a_function_of_the_user_gets_what_there_is():
    objective = Objective(None, (LossPart(lambda outputs, labels: outputs["a"].sum() * labels[1]),))
    assert float(objective({"a": torch.ones(3)}, (0, 2))) == 6
    assert objective.is_own
    assert "pass task= for its metrics" in str(objective)


def test_weights_of_examples_reach_every_position():
    task = as_task("token-classification")
    outputs, labels = torch.randn(2, 4, 3), torch.tensor([[0, 1, -100, -100], [2, 2, 1, 0]])
    weighted = WeightedLabels(labels, torch.tensor([3.0, 1.0]))
    part = LossPart(known_loss("cross_entropy"), task)

    each = F.cross_entropy(outputs.transpose(1, 2), labels, reduction="none")
    factors = torch.tensor([[3.0], [1.0]]) * (labels >= 0)

    assert float(part.value(outputs, weighted)) == pytest.approx(
        float((each * factors).sum() / factors.sum()), rel=1e-6
    )
    assert float(part.weight(weighted)) == 10


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_weights_of_examples_leave_out_labels_that_are_not_known(task):
    """Each weight stays with its example where others have no label."""
    outputs, labels = torch.randn(4, 2), torch.tensor([[1.0, -1], [-1, -1], [0, 1], [-1, 0]])
    part = LossPart(known_loss(as_task(task).loss), as_task(task, ignore=-1))
    weights = torch.tensor([[4.0], [9.0], [1.0], [2.0]])
    weighted = WeightedLabels(labels, weights[:, 0])

    single = copy.copy(part.loss.module)
    single.reduction = "none"
    factors = weights * (labels != -1)
    expected = (single(outputs, labels) * factors).sum() / factors.sum()

    assert float(part.value(outputs, weighted)) == pytest.approx(float(expected), rel=1e-6)
    assert float(part.weight(weighted)) == float(factors.sum())


def test_a_sum_is_no_mean():
    part = LossPart(known_loss(nn.MSELoss(reduction="sum")), as_task("regression"))
    assert part.is_sum
    assert Objective(as_task("regression"), (part,)).weight(LOGITS) == 1
    assert watched_of({"a": part.loss.module, "b": "huber"}) == (part.loss.module,)
