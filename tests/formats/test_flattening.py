"""The order of a flattened map in words."""

import pytest

from regraft.formats.flattening import flatten_facts


@pytest.mark.parametrize(("axes", "facts"), [
    ("chw", {"flatten_order": "channels_first"}), ("cw", {"flatten_order": "channels_first"}),
    ("hwc", {"flatten_order": "channels_last", "flatten_channels": 3}),
    ("dhwc", {"flatten_order": "channels_last", "flatten_channels": 3}),
    ("whc", {"flatten_order": "permuted", "flatten_axes": ["w", "h", "c"]}),
    ("w?c", {"flatten_order": "permuted"}),
])  # fmt: skip
def test_orders_have_words(axes, facts):
    """Torch's own, TensorFlow's, and all others, with their axes where these are known."""
    assert flatten_facts(axes, [], 3) == facts


def test_sizes_travel_with_the_axes():
    """With them the order can be restored."""
    assert flatten_facts("whc", [4, 5, 3], 3)["flatten_sizes"] == [4, 5, 3]
