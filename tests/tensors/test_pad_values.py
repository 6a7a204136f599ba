"""What shorter inputs end in."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from regraft.errors import DataError
from regraft.tensors.pad_values import config_pad_id, pad_values

IDS = torch.tensor([5, 6])


class Reader(nn.Module):
    """A model with a configuration, as those of transformers."""

    def __init__(self, pad_id):
        super().__init__()
        self.config = SimpleNamespace(pad_token_id=pad_id)

    def forward(self, input_ids, attention_mask=None):
        return input_ids


def test_token_ids_end_in_the_pad_id_of_the_configuration():
    wrapped = nn.Sequential(Reader(3))
    assert config_pad_id(wrapped) == 3
    assert pad_values(wrapped, {"input_ids": IDS, "attention_mask": IDS}) == {"input_ids": 3}
    assert pad_values(Reader(3), IDS) == {"": 3}
    assert pad_values(Reader(3), (IDS, IDS)) == {"0": 3}
    assert pad_values(Reader(None), IDS) == {}
    assert pad_values(Reader(3), torch.zeros(2)) == {}


def test_a_given_value_comes_first():
    assert pad_values(Reader(3), {"input_ids": IDS}, {"input_ids": 9}) == {"input_ids": 9}
    assert pad_values(nn.Identity(), IDS, 9) == {"": 9}


def test_what_cannot_be_padded_is_told():
    with pytest.raises(DataError, match=r"no input ids to pad\. The inputs are input_ids"):
        pad_values(Reader(3), {"input_ids": IDS}, {"ids": 9})
    with pytest.raises(DataError, match="2 inputs are whole numbers: a, b"):
        pad_values(Reader(3), {"a": IDS, "b": IDS}, 9)
