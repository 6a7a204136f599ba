from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from regraft.errors import DataError, TrainError
from regraft.learning.losses import LabelCheck, as_loss, class_count, logits_of

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_cross_entropy_takes_any_whole_numbers(dtype):
    labels = torch.tensor([0, 2])
    assert torch.equal(as_loss("cross_entropy")(LOGITS, labels.to(dtype)), F.cross_entropy(LOGITS, labels))


def test_cross_entropy_takes_probabilities():
    wanted = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    assert torch.equal(as_loss("cross_entropy")(LOGITS, wanted), F.cross_entropy(LOGITS, wanted))


def test_one_output_is_no_cross_entropy():
    with pytest.raises(TrainError, match=r"the model gives the shape \(2, 1\)(.|\n)*mean_squared_error"):
        as_loss("cross_entropy")(torch.zeros(2, 1), torch.tensor([0, 1]))


def test_squared_difference_fits_a_column_to_its_labels():
    assert float(as_loss("mean_squared_error")(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 1]))) == 2.0


def test_squared_difference_refuses_class_numbers():
    with pytest.raises(TrainError, match=r"outputs \(2, 3\), labels \(2,\). For class numbers use"):
        as_loss("mean_squared_error")(LOGITS, torch.tensor([0, 2]))


def test_an_unknown_loss_is_answered_with_the_known_ones():
    with pytest.raises(TrainError, match=r"no loss 'crossentropy'. Did you mean 'cross_entropy'"):
        as_loss("crossentropy")


@pytest.mark.parametrize("outputs", [LOGITS, {"logits": LOGITS}, SimpleNamespace(logits=LOGITS)])
def test_logits_are_found_by_name(outputs):
    assert logits_of(outputs) is LOGITS
    assert class_count(outputs, torch.tensor([0, 2])) == 3


def test_outputs_without_logits_are_named():
    with pytest.raises(TrainError, match="gives a tuple without a tensor named `logits`"):
        logits_of((LOGITS, LOGITS))


@pytest.mark.parametrize("labels", [torch.tensor([0.1, 0.2]), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)])
def test_labels_that_are_no_class_numbers_have_no_classes(labels):
    assert class_count(LOGITS, labels) == 0


@pytest.mark.parametrize("label", [3, -1, -100])
def test_a_label_outside_names_its_example(label):
    with pytest.raises(DataError, match=f"Example 8 has the label {label}, and the model has 3 outputs.* 1 label is"):
        LabelCheck(3).look(torch.tensor([0, label]), torch.tensor([4, 8]))


def test_positions_without_a_label_pass_where_there_are_several():
    LabelCheck(3).look(torch.tensor([[0, 2], [-100, 1]]))
    with pytest.raises(DataError, match="Example 1 has the label 5"):
        LabelCheck(3).look(torch.tensor([[0, 2], [-100, 5]]))


def test_one_class_is_told_after_all_batches():
    check = LabelCheck(3)
    check.look(torch.tensor([1, 1]))
    with pytest.raises(DataError, match="All examples have the label 1"):
        check.finish()
    check = LabelCheck(3)
    check.look(torch.tensor([1, 1]))
    check.look(torch.tensor([2]))
    check.finish()
