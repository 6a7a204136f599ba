"""One class for each position: axes, ignored positions, shifted labels, checks."""

import pytest
import torch
from torch import nn

from regraft.errors import DataError
from regraft.tasks.classes import ClassCheck, ProbabilityCheck
from regraft.tasks.kinds import as_task

TOKENS, PIXELS = as_task("token-classification"), as_task("segmentation")


def test_tokens_and_tags_may_be_equally_many():
    """The axis comes from the task: (batch, tokens, tags) is read along the last axis, whatever the sizes are."""
    logits, labels = torch.randn(2, 5, 5), torch.randint(5, (2, 5))

    aligned, targets = TOKENS.aligned(logits, labels)

    expected = nn.functional.cross_entropy(logits.transpose(1, 2), labels)
    assert torch.allclose(nn.functional.cross_entropy(aligned, targets), expected, atol=1e-6)  # another order of sums
    assert torch.equal(TOKENS.probabilities(logits), logits.softmax(-1))
    assert torch.equal(PIXELS.probabilities(logits), logits.softmax(1))


def test_a_causal_language_model_learns_the_next_token():
    logits, ids = torch.randn(2, 6, 11), torch.randint(11, (2, 6))

    aligned, targets = as_task("language-model").aligned(logits, ids)

    assert torch.equal(aligned, logits[:, :-1].reshape(-1, 11))
    assert torch.equal(targets, ids[:, 1:].reshape(-1))
    predicted, labels, known = as_task("language-model").answers(logits, ids)
    assert predicted.shape == labels.shape == known.shape == (2, 5)


def test_ignored_positions_are_no_pairs():
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    labels[0, 0, 0], labels[1, 2, 2] = 255, -100

    scores, targets = as_task("segmentation", ignore=255).pairs(logits, labels)

    assert scores.shape == (30, 3)
    assert targets.shape == (30,)
    assert torch.equal(scores[0], logits[0, :, 0, 1])


def test_both_marks_of_ignored_positions_reach_the_loss_as_one():
    """Ragged labels are padded with -100, whatever mark the user has."""
    labels = torch.tensor([[1, 255, -100]])
    _, targets = as_task("token-classification", ignore=255).aligned(torch.zeros(1, 3, 2), labels)
    assert targets.tolist() == [1, 255, 255]


def test_probabilities_as_labels_have_no_pairs():
    assert as_task("classification").pairs(torch.zeros(2, 3), torch.full((2, 3), 1 / 3)) is None


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (torch.tensor([[0], [1]]), r"shape \(2, 1\), and the outputs have the shape \(2, 3\) with 3 classes"),
        (torch.tensor([0.0, 1.0]), "Convert class numbers with labels.long"),
        (torch.tensor([[0, 1, 1], [1, 0, 0]]), 'Pass task="multilabel" to learn several labels per example'),
        ({"a": torch.zeros(2)}, "The labels are a dict, and the task classification takes one tensor"),
    ],
)
def test_labels_of_another_form_are_refused_with_the_way_out(labels, text):
    with pytest.raises(DataError, match=text):
        as_task("classification").check(torch.zeros(2, 3), labels)


def test_one_output_is_no_classification():
    with pytest.raises(DataError, match=r"needs one output per class; the model returns the shape \(2, 1\)"):
        as_task("classification").check(torch.zeros(2, 1), torch.tensor([0, 1]))


def test_a_class_beyond_the_outputs_is_named():
    check = as_task("classification").check(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="Example 7 has the label 5, and the model has 3 outputs: labels go"):
        check.look(torch.tensor([1, 5]), torch.tensor([4, 7]))


def test_a_label_per_example_cannot_be_ignored_by_accident():
    """-100 marks positions; a whole example without a label is a mistake."""
    with pytest.raises(DataError, match="label -100"):
        ClassCheck(3).look(torch.tensor([0, -100]))
    ClassCheck(3, positions=True).look(torch.tensor([[0, -100]]))


def test_one_class_alone_and_no_label_at_all_teach_nothing():
    check = ClassCheck(3)
    check.look(torch.tensor([1, 1]))
    with pytest.raises(DataError, match="All examples have the label 1"):
        check.finish()
    check = ClassCheck(3, positions=True)
    check.look(torch.full((2, 4), -100))
    with pytest.raises(DataError, match="No position has a label"):
        check.finish()


def test_rows_that_are_no_probabilities_are_named():
    with pytest.raises(DataError, match=r"example 1 are not probabilities: their sum is 2[\s\S]*task=\"multilabel\""):
        ProbabilityCheck().look(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
