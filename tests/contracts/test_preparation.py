"""Inputs of several kinds together."""

import pytest

from regraft.contracts.numbers import NumberContract
from regraft.contracts.preparation import Preparation
from regraft.errors import DataError
from regraft.inputs import InputContract


def test_one_kind_is_the_first_argument_and_several_have_names():
    """The names of the kinds, or those that are given; a text's are the tokenizer's."""
    assert Preparation().together({"image": 1}) == 1
    assert Preparation().together({"image": 1, "numbers": 2}) == {"image": 1, "numbers": 2}
    named = Preparation(arguments={"image": "pixel_values"})
    assert named.together({"image": 1}) == {"pixel_values": 1}
    assert named.together({"image": 1, "text": {"input_ids": 2}}) == {"pixel_values": 1, "input_ids": 2}


def test_two_inputs_of_one_name_are_refused():
    """One would hide the other."""
    with pytest.raises(DataError, match="Two inputs have the name input_ids"):
        Preparation(arguments={"image": "input_ids"}).together({"image": 1, "text": {"input_ids": 2}})


def test_it_knows_its_kinds():
    """In their order."""
    assert Preparation().kinds == ()
    both = Preparation(InputContract(), numbers=NumberContract(("age",)))
    assert (both.kinds, both.several, Preparation(InputContract()).several) == (("image", "numbers"), True, False)
