"""The contract of a place."""

from regraft.stores.place import Place


def test_a_place_that_leaves_nothing_half_written_need_not_sweep():
    """The only verb with an answer of its own."""
    assert Place.__abstractmethods__ == {
        "where", "names", "files", "size", "changed", "read", "opened", "write", "create", "excludes", "remove",
        "remove_file",
    }  # fmt: skip
