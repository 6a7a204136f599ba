"""Sizes are numbers of Python: every operator on them is tried as Python runs it."""

import pytest

from regraft.networks.axis_orders import Held
from regraft.networks.operators import OperatorCall
from regraft.networks.operators_sizes import SIZES, TAKE_SIZES, with_sizes
from regraft.networks.vocabulary import OPERATORS

CASES = [
    ("add", (2, 3), {}, 5), ("add", ((2, 3), 1), {}, (3, 4)), ("mul", ((2, 3), (4, 5)), {}, (8, 15)),
    ("sub", (2, 3), {}, -1), ("div_trunc", (7, 2), {}, 3), ("div_trunc", (-7, 2), {}, -3), ("mod", (7, 4), {}, 3),
    ("equal", (2, 2), {}, True), ("where", (True, 2, 3), {}, 2), ("where", ((True, False), (1, 1), (5, 6)), {}, (1, 6)),
    ("concat", ((2, 3), (4,)), {}, (2, 3, 4)), ("unsqueeze", (3,), {"axes": (0,)}, (3,)), ("squeeze", ((3,),), {}, 3),
    ("reshape", ((3,),), {"shape": ()}, 3), ("reshape", (3,), {"shape": (1,)}, (3,)), ("gather", ((2, 3, 4), 1), {}, 3),
    ("gather", ((2, 3, 4), (2, 0)), {}, (4, 2)), ("index", ((2, 3),), {"index": -1}, 3),
    ("slice", ((2, 3, 4, 5),), {"starts": (1,), "ends": (None,), "steps": (2,)}, (3, 5)),
    ("slice_between", ((2, 3, 4, 5), (1,), 3), {}, (3, 4)), ("stack", (2, 3), {}, (2, 3)), ("stack", (4,), {}, (4,)),
    ("split", ((2, 3, 4),), {"sizes": (1, 2)}, ((2,), (3, 4))), ("prod", ((2, 3),), {}, 6),
    ("chunk", ((2, 3, 4, 5),), {"count": 2}, ((2, 3), (4, 5))),
    ("prod", ((2, 3),), {"keepdim": True}, (6,)), ("sum", ((2, 3),), {}, 5), ("max", ((2, 3),), {}, 3),
    ("min", ((2, 3),), {}, 2), ("numel", ((2, 3),), {}, 2), ("shape", ((2, 3),), {}, (2,)), ("neg", (2,), {}, -2),
    ("cast", (2,), {"dtype": "float32"}, 2.0), ("cast", ((2, 3),), {"dtype": "int64"}, (2, 3)),
    ("cast", (2.7,), {"dtype": "int32"}, 2), ("floor", (2.7,), {}, 2.0), ("ceil", (2.2,), {}, 3.0),
    ("sqrt", (9,), {}, 3.0), ("maximum", (2, 5), {}, 5), ("minimum", (2, 5), {}, 2), ("logical_not", (True,), {},
        False),
    ("logical_and", (True, False), {}, False), ("less", (2, 3), {}, True), ("identity", ((2, 3),), {}, (2, 3)),
]  # fmt: skip


@pytest.mark.parametrize("is_plain", [False, True])
@pytest.mark.parametrize(("name", "values", "settings", "wanted"), CASES)
def test_an_operator_on_sizes(name, values, settings, wanted, is_plain):
    """As variables, and as constants."""
    import math

    texts = tuple(repr(value) if is_plain else f"v{place}" for place, value in enumerate(values))
    held = tuple(
        Held(text, None, "int64", plain=value, is_plain=is_plain) for text, value in zip(texts, values, strict=True)
    )

    text = SIZES[name](OperatorCall(settings, texts, held))

    result = eval(text, {"math": math, **{f"v{place}": value for place, value in enumerate(values)}})
    assert result == wanted
    assert type(result) is type(wanted)


def test_tuples_inside_of_a_stack_are_tensors():
    """There is no text for sizes then."""
    held = tuple(Held(text, None, plain=(2, 3)) for text in "ab")

    assert SIZES["stack"](OperatorCall({}, ("a", "b"), held)) == ""


def test_every_form_is_of_an_operator():
    """And operators that take sizes are known."""
    assert SIZES.keys() <= OPERATORS.keys()
    assert TAKE_SIZES.keys() <= OPERATORS.keys()
    assert with_sizes({"add": OPERATORS["relu"]})["add"].sizes is SIZES["add"]


def test_a_power_that_would_take_for_ever_is_no_size():
    """A small file must not make a large number."""
    held = [Held(repr(value), plain=value) for value in (3, 10**9)]

    assert SIZES["pow"](OperatorCall({}, ("3", "1000000000"), tuple(held))) == ""
