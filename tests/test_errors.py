"""The error tree and its help with names."""

from regraft import errors

KINDS = [kind for kind in vars(errors).values() if getattr(kind, "__module__", "") == errors.__name__]
KINDS = [kind for kind in KINDS if isinstance(kind, type)]


def test_every_error_has_one_root():
    """`except RegraftError` is enough."""
    assert all(issubclass(kind, errors.RegraftError) for kind in KINDS)


def test_the_drawn_tree_names_every_error():
    """The drawing at the top of the file is the truth."""
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in KINDS)


def test_near_names_come_first_and_long_lists_are_cut():
    """Twenty names are enough to see the form."""
    told = errors.near_names("layer7", [f"layer{index}" for index in range(30)])
    assert told.startswith("Did you mean 'layer7'")
    assert told.endswith("… (10 more).")


def test_no_names_are_said_to_be_none():
    """Instead of an empty list."""
    assert errors.near_names("x", []) == "There are no names to choose from."
