"""The error tree, and advice as data."""

import ast
import pickle

import pytest

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
        'No array in the checkpoint matches head.\nPass fresh=["head"] to keep the initial weights of head.'
    )
    assert error.text == "No array in the checkpoint matches head."
    assert error.advice == (advice,)


def test_an_error_keeps_its_advice_on_the_way_out_of_another_process():
    """Worker processes hand errors over by pickle."""
    error = errors.PlanError("No.", advice=[errors.Advice("layout", "flax", "read the axes as Flax writes them")])
    assert pickle.loads(pickle.dumps(error)).advice == error.advice


def test_a_door_prints_the_same_advice_in_its_own_form_and_leaves_out_what_it_does_not_have():
    """The text of the error stays as it was raised."""
    error = errors.PlanError("No.", advice=[errors.Advice("layout", "flax", "a"), errors.Advice("views", 4, "b")])
    error.spell = lambda advice: "--layout flax" if advice.argument == "layout" else ""
    assert str(error) == "No.\n--layout flax"
    assert pickle.loads(pickle.dumps(errors.PlanError("No."))).spell is str


@pytest.mark.parametrize(
    "value",
    ["head", 'a"b', "ends in \\", r"bn1\.eps", {r"dnn/(.*)": r"\1"}, ["a", "b"], True, None, 4, {0: "head"}, "a\nb"],
)
def test_a_value_is_written_as_python_reads_it(value):
    """A user pastes it."""
    assert ast.literal_eval(errors.python_text(value)) == value


def test_an_error_prints_no_character_that_a_terminal_obeys():
    """Names of arrays and files are in it; the text itself keeps them."""
    error = errors.CheckpointError("no array 'a\x1b[2J\u202eb'\nsecond line")
    assert str(error) == "no array 'a\\u001b[2J\\u202eb'\nsecond line"
    assert "\x1b" in error.text
