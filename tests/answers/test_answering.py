"""Answers from outputs, task by task."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.answers.answering import Reader
from regraft.answers.unlabelled import Unlabelled
from regraft.contracts.preparation import Preparation
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.inputs import InputContract

TWO = Unlabelled(["a", "b"], lambda index: None)


def answers(target, outputs, examples=TWO, inputs=(), **options):
    """Of all examples."""
    return Reader(target, Preparation(), **options).answers(outputs, inputs, examples, range(len(examples)))


def test_several_labels_may_apply():
    """The sigmoid of each output, never a softmax over them."""
    first, second = answers(Target("multilabel", ("x", "y")), torch.tensor([[2.0, 2.0], [-1.0, -3.0]]))
    assert (first.labels, second.labels) == (("x", "y"), ())
    assert first.probabilities["x"] == pytest.approx(0.880797, abs=1e-6)  # 1 / (1 + e⁻²)


@pytest.mark.parametrize("outputs", [torch.tensor([3.5, 41.0]), torch.tensor([[3.5], [41.0]])])
def test_numbers_have_the_name_of_their_column(outputs):
    """As they are."""
    assert [answer.values for answer in answers(Target("regression", (), ("age",)), outputs)] == [
        {"age": 3.5}, {"age": 41.0},
    ]  # fmt: skip


def test_each_word_has_the_tag_of_its_first_token():
    """The classes are on the last axis."""
    words = Unlabelled(["a"], lambda index: None, [["the", "mat"]], [[None, 0, 1, 1, None]])
    scores = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])][None] * 5
    (answer,) = answers(Target("token-classification", ("B", "O", "X")), scores, words)
    assert (answer.words, answer.tags) == (("the", "mat"), ("O", "X"))


def test_a_mask_has_the_size_of_its_image_and_the_values_of_training(tmp_path):
    """What a crop cut off has no class: 255."""
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    examples = Unlabelled(["a.png"], lambda index: None, files=[tmp_path / "a.png"])
    scores = torch.zeros(1, 2, 4, 4)
    scores[0, 1, :, 2:] = 1
    reader = Reader(Target("segmentation", ("ground", "car"), mask_values=(0, 200)),
                    Preparation(InputContract((4, 4), resize="crop")), tmp_path / "masks")  # fmt: skip
    (answer,) = reader.answers(scores, torch.zeros(1, 3, 4, 4), examples, [0])
    pixels = np.asarray(Image.open(answer.mask))
    assert pixels[0].tolist() == [255, 255, 0, 0, 200, 200, 255, 255]
    assert answer.shares == {"ground": 0.25, "car": 0.25}
    again = reader.answers(scores, torch.zeros(1, 3, 4, 4), examples, [0])
    assert Path(again[0].mask).name == "a-2.png"  # nothing is replaced


@pytest.mark.parametrize(
    ("target", "outputs", "words"),
    [
        (Target("multilabel", ("x",)), torch.zeros(2, 2), "gives 2 outputs, but 1 class is named"),
        (Target("regression", (), ("age",)), torch.zeros(2, 2), "gives 2 numbers, and 1 column"),
        (Target("segmentation", ("x", "y")), torch.zeros(2, 2, 3, 3), "Give a folder for them"),
        (Target("classification", ("x", "y")), torch.zeros(2, 2, 3), "one row of class scores"),
        (Target("regression"), torch.tensor([1.0, torch.nan]), "outputs for b are not finite"),
    ],
)
def test_outputs_that_do_not_fit_the_record_are_refused(target, outputs, words):
    """Instead of a wrong answer."""
    with pytest.raises(DataError, match=words):
        answers(target, outputs)
