"""Leaves of nested containers and their paths."""

import pytest

from regraft.errors import CheckpointError
from regraft.formats.named_arrays import named_leaves


def leaves(value, limit=100):
    return dict(named_leaves(value, lambda one: isinstance(one, float), limit=limit))


def test_leaves_come_in_order_with_their_paths():
    """Keys as text, positions as numbers; what is no leaf is passed over."""
    assert list(leaves({"b": [1.0, "no", (2.0,)], 7: {"x": 3.0}})) == [("b", "0"), ("b", "2", "0"), ("7", "x")]


def test_a_lone_leaf_has_no_path():
    """Its reader names it."""
    assert leaves(1.0) == {(): 1.0}


def test_depth_and_visits_are_limited():
    """64 levels; as many visits as the caller allows."""
    deep = 1.0
    for _ in range(70):
        deep = [deep]
    with pytest.raises(CheckpointError, match="without end"):
        leaves(deep)
    with pytest.raises(CheckpointError, match="without end"):
        leaves([1.0] * 101)
