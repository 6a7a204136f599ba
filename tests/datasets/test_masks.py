"""Masks beside images."""

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.contracts.preparation import Preparation
from regraft.datasets.labelled import Target
from regraft.datasets.opening import open_data
from regraft.errors import DataError
from regraft.inputs import InputContract

PICTURE = np.array([[0, 1, 1, 255], [0, 1, 2, 2]], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two images of 4 × 2 pixels with masks."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (4, 2), "gray").save(tmp_path / f"images/{name}.jpg")
        Image.fromarray(PICTURE).save(tmp_path / f"masks/{name}.png")
    return tmp_path


def test_each_pixel_has_the_number_of_its_class(folder):
    """255 is a pixel without one."""
    data = open_data(folder, Preparation(InputContract()))
    assert (data.target.task, data.classes, data.labels) == ("segmentation", ("0", "1", "2"), None)
    assert data[1][1].tolist() == [[0, 1, 1, -100], [0, 1, 2, 2]]
    assert data.ids == ("images/a.jpg", "images/b.jpg")


@pytest.mark.parametrize(
    ("contract", "label"),
    [
        (InputContract((2, 2)), [[1, -100], [1, 2]]),  # the nearest pixel of each half
        (InputContract((4, 8)), np.repeat(np.repeat([[0, 1, 1, -100], [0, 1, 2, 2]], 2, 0), 2, 1).tolist()),
        (InputContract((2, 2), resize="crop"), [[1, 1], [1, 2]]),
        (InputContract((4, 4), resize="pad"), [[-100] * 4, [0, 1, 1, -100], [0, 1, 2, 2], [-100] * 4]),
    ],
)
def test_a_mask_is_resized_with_its_image(folder, contract, label):
    """No class between two others appears; borders have none."""
    data = open_data(folder, Preparation(contract))
    inputs, mask = data[0]
    assert mask.tolist() == label
    assert inputs.shape[1:] == mask.shape


def test_other_values_can_stand_for_the_classes(folder):
    """A mask of black and white; further data keep the classes."""
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.where(PICTURE == 1, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(DataError, match=r"values 0 and 255 alone.*\n.*mask_values = \[0, 255\]"):
        open_data(folder, Preparation(InputContract()))
    target = Target(classes=("ground", "car"), mask_values=(0, 255))
    data = open_data(folder, Preparation(InputContract()), target=target)
    assert (data.classes, data[0][1].unique().tolist()) == (("ground", "car"), [0, 1])
    assert open_data(folder, data.preparation, target=data.target).target == data.target


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "masks/b.png").unlink(), r"1 image has no mask of its name: .*b\.jpg"),
        (lambda folder: Image.new("RGB", (4, 2)).save(folder / "masks/b.png"), r"b\.png has colours \(mode RGB\)"),
        (lambda folder: Image.new("L", (2, 2)).save(folder / "masks/b.png"), r"b\.png has 2 × 2 pixels, and its image"),
        (lambda folder: (folder / "masks/b.png").write_bytes(b"no"), r"b\.png cannot be read as a mask"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(folder, change, words):
    """When the data are opened."""
    change(folder)
    with pytest.raises(DataError, match=words):
        open_data(folder, Preparation(InputContract()))


def test_values_that_are_no_class_are_named_with_their_mask(folder):
    """Never taken for another class."""
    with pytest.raises(DataError, match=r"(?s)2 masks have values that are no class.*0, 1, and 255.*a\.png: 2"):
        open_data(folder, Preparation(InputContract()), target=Target("segmentation", ("ground", "car")))


def test_a_table_can_list_masks(folder):
    """In a column of its own."""
    (folder / "t.csv").write_text("path,mask\nimages/a.jpg,masks/b.png\n")
    data = open_data(folder / "t.csv", Preparation(InputContract()), target=Target("segmentation"))
    assert torch.equal(data[0][1], open_data(folder, Preparation(InputContract()))[1][1])
    assert data.target.columns == ("mask",)


def test_two_masks_of_one_name_are_refused(folder):
    """One of them would be taken, and the other one forgotten."""
    Image.fromarray(PICTURE).save(folder / "masks/a.bmp")

    with pytest.raises(DataError, match=r"Two masks differ only in their suffix.*a\.bmp"):
        open_data(folder, Preparation(InputContract()))
