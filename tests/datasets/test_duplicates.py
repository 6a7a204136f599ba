"""Examples that two data sets share."""

import shutil

import numpy as np
import torch

from regraft.contracts.preparation import Preparation
from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.duplicates import shared_examples
from regraft.datasets.labelled import Chosen, Target
from regraft.inputs import InputContract

AB = Target("classification", ("a", "b"))


def test_copies_of_a_file_are_found_under_any_name(image_folder, tmp_path_factory):
    """In another class, too; a file that differs in one byte is another."""
    other = tmp_path_factory.mktemp("other")
    for source, target in (("cat/0.png", "dog/renamed.png"), ("dog/1.png", "dog/1.png"), ("dog/2.png", "cat/2.png")):
        (other / target).parent.mkdir(exist_ok=True)
        shutil.copy(image_folder / source, other / target)
    with (other / "cat/2.png").open("ab") as file:
        file.write(b"\0")
    contract = Preparation(InputContract((4, 4)))
    train, test = (open_class_folder(folder, contract) for folder in (image_folder, other))
    assert shared_examples(train, test) == ["dog/1.png", "dog/renamed.png"]


def test_equal_rows_of_arrays_are_found():
    """By all their values; a chosen part has its own."""
    inputs = torch.from_numpy(np.arange(12, dtype=np.float32).reshape(4, 3))
    train = ArrayExamples(inputs, torch.tensor([0, 1, 0, 1]), AB)
    test = ArrayExamples(torch.cat([inputs[2:3], inputs[2:3] + 1]), torch.tensor([0, 1]), AB)
    assert shared_examples(train, test) == ["0"]
    assert shared_examples(train, ArrayExamples(inputs.reshape(4, 3, 1), train.labels, AB)) == []
    assert shared_examples(Chosen(train, torch.tensor([0, 1])), test) == []
