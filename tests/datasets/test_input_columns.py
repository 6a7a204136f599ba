"""One kind of input for every example."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.datasets.input_columns import NumberColumn, TokenColumn, image_column
from regraft.errors import DataError
from regraft.inputs import InputContract


def test_images_in_memory_are_known_by_their_bytes(image_folder):
    """As the same images on disk."""
    paths, contract = [image_folder / "cat/0.png", image_folder / "cat/1.png"], InputContract((4, 4))
    on_disk = image_column(paths, contract)
    held = image_column([Path("a"), Path("b")], contract, [path.read_bytes() for path in paths])
    assert held.content_ids([0, 1]) == on_disk.content_ids([0, 1])
    assert torch.equal(held[1], on_disk[1])


def test_damaged_bytes_are_named():
    """By the name that the data set gives them."""
    good = BytesIO()
    Image.new("RGB", (4, 4)).save(good, "png")
    column = image_column([Path("a"), Path("b")], InputContract(), [good.getvalue(), b"damaged"])
    assert column.unreadable() == [1]
    with pytest.raises(DataError, match="b cannot be read as an image"):
        column[1]


def test_tokens_and_numbers_are_known_by_their_values():
    """Equal ones are the same content."""
    tokens = TokenColumn([{"input_ids": torch.tensor(ids)} for ids in ([1, 2], [1, 2], [2, 1])])
    first, second, third = tokens.content_ids([0, 1, 2])
    assert first == second != third
    numbers = NumberColumn(np.array([[1.0], [2.0]], np.float32))
    assert numbers.content_ids([0]) != numbers.content_ids([1])
    assert numbers.unreadable() == []
