"""The contract of a place."""

from regraft.stores.place import Place


def test_a_place_that_leaves_nothing_half_written_need_not_sweep():
    """The only verb with an answer of its own."""
    assert Place.__abstractmethods__ == {
        "where", "names", "size", "changed", "read", "opened", "write", "create", "remove", "remove_if",
    }  # fmt: skip
