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


def test_near_names_stand_for_a_list_too_long_to_read():
    """A checkpoint has hundreds of names; the near ones say more than the first twenty."""
    told = errors.near_names("layer7", [f"layer{index}" for index in range(30)])
    assert told.startswith("Did you mean 'layer7'")
    assert told.endswith("? There are 30 names.")


def test_without_near_names_the_first_twenty_show_the_form():
    """Of a list of any length."""
    told = errors.near_names("xyz", [f"layer{index}" for index in range(30)])
    assert told.startswith("Names: layer0, layer1")
    assert told.endswith("layer19, … (10 more).")


def test_one_is_counted_in_the_singular():
    """1 tensor crosses, 2 tensors cross."""
    told = [errors.counted(number, "tensor", "crosses/cross") for number in (0, 1, 2000)]
    assert told == ["0 tensors cross", "1 tensor crosses", "2,000 tensors cross"]
    assert [errors.counted(number, "entry/entries") for number in (1, 2)] == ["1 entry", "2 entries"]


def test_no_names_are_said_to_be_none():
    """Instead of an empty list."""
    assert errors.near_names("x", []) == "There are no names to choose from."
