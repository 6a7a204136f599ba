"""Folders of class folders."""

import os
import shutil

import pytest

from regraft.contracts.preparation import Preparation
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.labelled import Target
from regraft.errors import DataError
from regraft.inputs import InputContract

CONTRACT = Preparation(InputContract((4, 4)))


def test_classes_are_the_sorted_folder_names_and_strays_are_told(image_folder):
    """Nothing is left out silently."""
    data = open_class_folder(image_folder, CONTRACT)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.ids[0] == "cat/0.png"
    assert data.notes == ("1 file left out, not images by their suffix: cat/readme.txt",)
    assert data[5][0].shape == (3, 4, 4)


def test_an_empty_class_is_named(image_folder):
    """A class that cannot be learned is a mistake."""
    (image_folder / "bird").mkdir()
    with pytest.raises(DataError, match=r"no readable image of 1 of 3 classes: bird"):
        open_class_folder(image_folder, CONTRACT)


def test_a_folder_of_images_alone_is_no_data_set(image_folder):
    """With the expected form."""
    with pytest.raises(DataError, match=r"holds no class folders. Expected one subfolder of images for each class"):
        open_class_folder(image_folder / "cat", CONTRACT)


def test_test_data_with_another_class_are_refused(image_folder):
    """The nearest class is offered."""
    with pytest.raises(DataError, match=r"dog is not a class of the training data. Did you mean 'dogs'"):
        open_class_folder(image_folder, CONTRACT, target=Target("classification", ("cat", "dogs")))


def test_one_class_alone_is_refused(image_folder):
    """There is nothing to tell apart."""
    for path in (image_folder / "dog").iterdir():
        path.unlink()
    (image_folder / "dog").rmdir()
    with pytest.raises(DataError, match="all 3 examples are of one class"):
        open_class_folder(image_folder, CONTRACT)


def test_test_data_need_not_have_every_class(image_folder):
    """A camera may have seen no dog today."""
    for path in (image_folder / "dog").iterdir():
        path.unlink()
    data = open_class_folder(image_folder, CONTRACT, target=Target("classification", ("cat", "dog")))
    assert data.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "validation", "test"), ("dev", "train", "labels")])
def test_parts_of_the_data_are_no_classes(image_folder, names):
    """A root with train/ and test/ in it would train on "is it from the test data?"."""
    root = image_folder / "root"
    for name in names:
        shutil.copytree(image_folder / "cat", root / name / "cat")
        shutil.copytree(image_folder / "dog", root / name / "dog")
    train = next(name for name in names if name.lower().startswith("train"))
    with pytest.raises(DataError, match=rf"parts of the data, not classes[\s\S]*\[data\] train = \".*/root/{train}\""):
        open_class_folder(root, CONTRACT)
    assert len(open_class_folder(root / train, CONTRACT)) == 6


def test_one_class_may_be_called_train(image_folder):
    """Vehicles: car, train, truck."""
    (image_folder / "cat").rename(image_folder / "train")
    assert open_class_folder(image_folder, CONTRACT).classes == ("dog", "train")


def test_a_named_pipe_among_images_is_left_out(image_folder):
    """Reading it would wait for ever."""
    os.mkfifo(image_folder / "cat" / "pipe.png")
    data = open_class_folder(image_folder, CONTRACT)
    assert len(data) == 6
    assert data.notes[0].startswith("2 files left out")
