"""Answers for new examples."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from regraft.contracts.preparation import Preparation
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.inputs import InputContract
from regraft.predicting import predict

CONTRACT = Preparation(InputContract((2, 2)))
CLASSES = Target("classification", ("dark", "light"))


class Brightness(nn.Module):
    """Logits (batch, 2): the image's mean decides."""

    def forward(self, images):
        brightness = images.mean((1, 2, 3)) * 20 - 10
        return torch.stack([-brightness, brightness], dim=1)


@pytest.fixture
def pictures(tmp_path):
    """A black and a white image, and an array file with both."""
    for name, colour in (("a.png", "black"), ("b.png", "white")):
        Image.new("RGB", (3, 3), colour).save(tmp_path / name)
    pixels = np.stack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])
    np.savez(tmp_path / "both.npz", x=pixels)
    return tmp_path


def test_a_folder_gives_an_answer_for_each_image_in_order(pictures):
    """Names, classes, probabilities that sum to one."""
    answers = predict(Brightness(), [pictures], CONTRACT, CLASSES, batch_size=1)
    assert [(answer.name[-5:], answer.label) for answer in answers] == [("a.png", "dark"), ("b.png", "light")]
    assert all(abs(sum(answer.probabilities) - 1) < 1e-6 for answer in answers)  # float32 softmax of two


def test_an_array_file_gives_an_answer_for_each_row(pictures):
    """Named by the row."""
    answers = predict(Brightness(), [pictures / "both.npz"], CONTRACT, CLASSES)
    found = [(answer.name[-11:], answer.label) for answer in answers]
    assert found == [("both.npz[0]", "dark"), ("both.npz[1]", "light")]


def test_every_missing_path_is_named_before_anything_is_predicted(tmp_path):
    """All of them."""
    with pytest.raises(DataError, match=r"These files do not exist: .*x.jpg, .*y.jpg"):
        predict(Brightness(), [tmp_path / "x.jpg", tmp_path / "y.jpg"], CONTRACT, CLASSES)


def test_a_folder_without_images_is_said(tmp_path):
    """With its name."""
    with pytest.raises(DataError, match="holds no images"):
        predict(Brightness(), [tmp_path], CONTRACT, CLASSES)


def test_an_unreadable_image_is_named(pictures):
    """As in training."""
    (pictures / "a.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"a.png cannot be read as an image"):
        predict(Brightness(), [pictures / "a.png"], CONTRACT, CLASSES)


def test_unreadable_images_are_left_out_when_asked_and_named(pictures):
    """The others are answered; nothing is left out in silence."""
    (pictures / "a.png").write_bytes(b"damaged")
    told = []

    answers = predict(Brightness(), [pictures], CONTRACT, CLASSES, skip_unreadable=True, tell=told.append)

    assert [answer.name[-5:] for answer in answers] == ["b.png"]
    assert told == [
        f"1 file left out, not images by their suffix: {pictures / 'both.npz'}",
        f"1 unreadable image skipped: {pictures / 'a.png'}",
    ]


def test_images_of_several_sizes_are_answered_where_each_keeps_its_own(pictures):
    """A model that takes any size."""
    Image.new("RGB", (5, 4), "white").save(pictures / "c.png")
    answers = predict(Brightness(), [pictures], Preparation(InputContract()), CLASSES)
    assert [answer.label for answer in answers] == ["dark", "light", "light"]


def test_outputs_that_do_not_fit_the_classes_are_refused(pictures):
    """Instead of a wrong name."""
    with pytest.raises(
        DataError,
        match=r"The model gives 2 outputs, but 3 classes are named\.\nTrain one with as many outputs as classes",
    ):
        predict(Brightness(), [pictures / "b.png"], CONTRACT, Target("classification", ("a", "b", "c")))


def test_examples_that_the_model_cannot_take_are_named(tmp_path):
    """With their shape."""
    np.savez(tmp_path / "rows.npz", x=np.zeros((2, 5), np.float32))
    with pytest.raises(DataError, match=r"cannot take examples of shape \(5,\), such as .*rows.npz\[0\]"):
        predict(nn.Linear(3, 2), [tmp_path / "rows.npz"], CONTRACT, CLASSES)


def test_files_of_a_folder_that_are_left_out_are_named(pictures):
    """A telephone's .HEIC among them; hidden files are nobody's."""
    for number in range(30):
        (pictures / f"{number:02}.HEIC").touch()
    (pictures / ".DS_Store").touch()
    notes = []
    assert len(predict(Brightness(), [pictures], CONTRACT, CLASSES, tell=notes.append)) == 2
    assert notes[0].startswith("31 files left out, not images by their suffix: ")
    assert "00.HEIC" in notes[0]
    assert "DS_Store" not in notes[0]
    assert notes[0].endswith("… (11 more)")


def test_images_are_refused_where_nobody_knows_how_they_were_prepared(pictures):
    """Raw pixels at their own size would be answered, wrongly; numbers are answered as they are."""
    for name in ("a.png", "both.npz"):
        with pytest.raises(DataError, match=rf"without an input contract, so inputs such as .*{name}"):
            predict(Brightness(), [pictures / name], Preparation(), CLASSES)
    np.savez(pictures / "rows.npz", x=np.zeros((2, 3, 2, 2), np.float32))
    assert len(predict(Brightness(), [pictures / "rows.npz"], Preparation(), CLASSES)) == 2


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda images: {"scores": images}, "gives dict for 2 examples"),
        (lambda images: images.new_zeros(2, 5, 2), r"gives a tensor of shape \(2, 5, 2\) for 2 examples"),
        (lambda images: images.new_zeros(2), r"gives a tensor of shape \(2,\) for 2 examples"),
        (lambda images: images.new_zeros(1, 2), r"gives a tensor of shape \(1, 2\) for 2 examples"),
    ],
)
def test_outputs_that_are_no_row_for_each_example_are_refused(pictures, forward, words):
    """The softmax of another axis would be an answer, too."""
    model = Brightness()
    model.forward = forward
    with pytest.raises(DataError, match=words):
        predict(model, [pictures / "both.npz"], CONTRACT, CLASSES)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_of_no_number_is_refused_and_named(pictures, value):
    """The largest of NaNs is the first class."""
    rows = np.zeros((3, 3, 2, 2), np.float32)
    rows[1] = value
    np.savez(pictures / "rows.npz", x=rows)
    with pytest.raises(DataError, match=r"outputs for .*rows\.npz\[1\] are not finite"):
        predict(Brightness(), [pictures / "rows.npz"], CONTRACT, CLASSES)
