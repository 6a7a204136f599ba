"""A map and a number."""

import pytest

from regraft.formats.arithmetic import with_number


@pytest.mark.parametrize("word", ["add", "sub", "mul", "div", "pow"])
@pytest.mark.parametrize("is_first", [False, True])
def test_the_words_are_what_python_computes(word, is_first):
    """2 and 4, in both orders."""
    python = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
              "div": lambda a, b: a / b, "pow": lambda a, b: a**b}[word]  # fmt: skip
    function = with_number(word, 4.0, is_first=is_first)
    expected = python(4.0, 2.0) if is_first else python(2.0, 4.0)
    if isinstance(function, list):
        assert function[0] * 2.0 + function[1] == expected
    else:
        assert function == {("div", True): "4 over it", ("pow", False): "power 4"}.get((word, is_first))


def test_other_operations_have_no_word():
    """A division by zero has none either."""
    assert with_number("mod", 2.0, is_first=False) is None
    assert with_number("div", 0.0, is_first=False) is None
