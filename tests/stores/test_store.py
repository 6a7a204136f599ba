"""The contract's own data type."""

from regraft.stores.store import Part
from regraft.testing import part_of


def test_a_part_counts_its_rows():
    """One id, one row."""
    ids, _ = part_of(5)
    assert Part("p1", ids, {}).count == 5
