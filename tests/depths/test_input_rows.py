"""The input as plain features."""

import pytest
import torch

from regraft.depths.input_rows import MOST, STEPS, WORDS, input_rows

SIZES = {
    "vectors": (torch.randn(3, 7), 7),
    "long vectors": (torch.randn(3, 9000), MOST),
    "small pictures": (torch.randn(3, 1, 28, 28), 784),
    "large pictures": (torch.randn(3, 3, 30, 40), 3 * 64),
    "bytes of pictures": (torch.zeros(3, 3, 30, 40, dtype=torch.uint8), 3 * 64),
    "sequences": (torch.randn(3, 11, 5), STEPS * 5),
    "tokens": (torch.randint(9000, (3, 11)), WORDS),
    "numbers": (torch.randn(3), 1),
}


@pytest.mark.parametrize("name", SIZES)
def test_each_kind_of_input_has_so_many_columns(name):
    """The same for every batch."""
    inputs, columns = SIZES[name]
    assert input_rows(inputs).shape == (3, columns)
    assert input_rows(inputs[:1]).shape == (1, columns)


def test_tokens_are_counted_where_the_mask_allows():
    """A bag of words."""
    rows = input_rows(torch.tensor([[5, 5, 7]]), torch.tensor([[1, 1, 0]]))
    assert rows[0].nonzero().flatten().tolist() == [5]
    assert rows[0, 5] == 2
