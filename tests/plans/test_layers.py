"""A layer names its arrays as the model does."""

import pytest

from regraft.plans.layers import Layer, TargetArray


@pytest.mark.parametrize(("name", "expected"), [("block.fc", "block.fc.weight"), ("", "weight")])
def test_an_array_is_named_with_its_layer(name, expected):
    assert Layer(name, "dense", {"weight": TargetArray((2, 3), "float32")}).full("weight") == expected
