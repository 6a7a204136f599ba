"""The error tree, and advice as data."""

import pickle

from regraft import errors

KINDS = [kind for kind in vars(errors).values() if getattr(kind, "__module__", "") == errors.__name__]
KINDS = [kind for kind in KINDS if isinstance(kind, type) and issubclass(kind, Exception)]


def test_every_error_has_one_root():
    """`except RegraftError` is enough."""
    assert all(issubclass(kind, errors.RegraftError) for kind in KINDS)


def test_the_drawn_tree_names_every_error():
    """The drawing at the top of the file is the truth."""
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in KINDS)


def test_advice_is_printed_below_the_text_and_kept_as_data():
    """A door that spells arguments otherwise needs the argument and its value, not the sentence."""
    advice = errors.Advice("fresh", ["head"], "keep the initial weights of head")
    error = errors.PlanError("No array in the checkpoint matches head.", advice=[advice])
    assert str(error) == (
        "No array in the checkpoint matches head.\nPass fresh=['head'] to keep the initial weights of head."
    )
    assert error.text == "No array in the checkpoint matches head."
    assert error.advice == (advice,)


def test_an_error_keeps_its_advice_on_the_way_out_of_another_process():
    """Worker processes hand errors over by pickle."""
    error = errors.PlanError("No.", advice=[errors.Advice("layout", "flax", "read the axes as Flax writes them")])
    assert pickle.loads(pickle.dumps(error)).advice == error.advice
