import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regraft.errors import DataError
from regraft.evaluating import evaluate
from regraft.learning.labels import ClassCheck, ProbabilityCheck, class_logits, label_check
from regraft.learning.losses import cross_entropy
from regraft.learning.solvers import Steps
from regraft.training import train

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])


@pytest.mark.parametrize("labels", [torch.tensor([0.1, 0.2]), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)])
def test_labels_that_are_no_class_numbers_have_no_classes(labels):
    assert class_logits(LOGITS, labels) is None


def test_class_logits_have_the_classes_second_where_that_is_certain():
    assert class_logits({"logits": LOGITS}, torch.tensor([0, 2])) is LOGITS
    assert class_logits(torch.zeros(2, 7, 3), torch.zeros(2, 7, dtype=torch.int64)).shape == (2, 3, 7)
    assert class_logits(torch.zeros(2, 7, 7), torch.zeros(2, 7, dtype=torch.int64)) is None


@pytest.mark.parametrize("label", [3, -1, -100])
def test_a_label_outside_names_its_example(label):
    with pytest.raises(DataError, match=f"Example 8 has the label {label}, and the model has 3 outputs.* 1 label is"):
        ClassCheck(3).look(torch.tensor([0, label]), torch.tensor([4, 8]))


def test_positions_without_a_label_pass_where_there_are_several():
    ClassCheck(3).look(torch.tensor([[0, 2], [-100, 1]]))
    with pytest.raises(DataError, match="Example 1 has the label 5"):
        ClassCheck(3).look(torch.tensor([[0, 2], [-100, 5]]))


def test_one_class_is_told_after_all_batches():
    check = ClassCheck(3)
    check.look(torch.tensor([1, 1]))
    with pytest.raises(DataError, match="All examples have the label 1"):
        check.finish()
    check = ClassCheck(3)
    check.look(torch.tensor([1, 1]))
    check.look(torch.tensor([2]))
    check.finish()


def test_rows_that_are_no_probabilities_are_refused():
    """Several labels per example, written as 0 and 1, are not learnt by a softmax without a word."""
    ProbabilityCheck().look(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    ProbabilityCheck().look(torch.rand(4, 1000).softmax(1).half())
    for row, total in (([1.0, 1.0], 2), ([0.0, 0.0], 0), ([1.5, -0.5], 1)):
        told = rf"labels of example 9 are not probabilities: their sum is {total}(.|\n)*binary"
        with pytest.raises(DataError, match=told):
            ProbabilityCheck().look(torch.tensor([[1.0, 0.0], row]), torch.tensor([4, 9]))


@pytest.mark.parametrize("work", [lambda *a: train(*a, solver=Steps(epochs=1)), evaluate], ids=["train", "evaluate"])
def test_several_labels_per_example_are_refused_under_the_default_loss(work):
    labels = (torch.arange(36).reshape(12, 3) % 5 < 2).float()
    with pytest.raises(DataError, match="are not probabilities"):
        work(nn.Linear(4, 3), (torch.zeros(12, 4), labels))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.tensor([0.0, 2.0]), r"labels.long\(\)(.|\n)*mean_squared_error"),
        (torch.tensor([[0], [2]]), r"shape \(2, 1\)(.|\n)*labels.reshape\(len\(labels\)\)"),
        (torch.tensor([[1, 0, 1], [0, 1, 0]]), r"labels.argmax\(1\)(.|\n)*several labels per example"),
    ],
)
def test_labels_of_another_type_or_shape_are_refused_with_the_way_out(labels, told):
    with pytest.raises(DataError, match=told):
        label_check(cross_entropy, LOGITS, labels)


def test_a_loss_of_ones_own_knows_its_labels():
    """Masks with 255, which the loss ignores, train and are scored on the others."""
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    labels[5] = 255
    loss, model = nn.CrossEntropyLoss(ignore_index=255), nn.Linear(4, 3)
    train(model, (inputs, labels), loss=loss)
    score = evaluate(model, (inputs, labels), loss=loss)
    known, outputs = labels != 255, model(inputs).detach()
    assert score.count == 11
    assert score.accuracy == float((outputs.argmax(1) == labels)[known].double().mean())
    assert score.loss == pytest.approx(float(F.cross_entropy(outputs[known], labels[known])), rel=1e-6)  # float64


class Several(torch.utils.data.Dataset):
    """Two targets for each example."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.randn(4), {"kind": index % 2, "size": index % 3}


def test_several_targets_are_refused_by_training_and_evaluation():
    for work in (train, evaluate):
        with pytest.raises(DataError, match="The label of an example is a dict"):
            work(nn.Linear(4, 3), Several())
