"""Patterns choose by whole dotted names."""

import pytest

from regraft.errors import PatternError
from regraft.foundation.patterns import choose

NAMES = ["hidden1.weight", "hidden1.bias", "hidden10.weight", "outputs.weight"]


def test_a_pattern_takes_the_layer_with_its_parameters_and_never_a_longer_name():
    """hidden1 is not hidden10."""
    assert choose(NAMES, "hidden[12]|outputs") == ["hidden1.weight", "hidden1.bias", "outputs.weight"]


def test_a_list_of_patterns_takes_what_any_of_them_takes():
    """In the order of the names."""
    assert choose(NAMES, ["outputs", r"hidden1\.bias"]) == ["hidden1.bias", "outputs.weight"]


def test_each_pattern_without_a_match_is_named_with_near_names():
    """All at once, the nearest first."""
    with pytest.raises(PatternError, match=r"'hiden1'.*Did you mean 'hidden1'[\s\S]*'output'.*Did you mean 'outputs'"):
        choose(NAMES, ["hiden1", "output", "hidden1"])


def test_a_broken_regular_expression_is_explained():
    """With its position."""
    with pytest.raises(PatternError, match=r"'hidden\[' is not a regular expression: unterminated character set"):
        choose(NAMES, "hidden[")


@pytest.mark.parametrize("patterns", [0, None, ["layer4", 3]])
def test_what_is_no_text_is_no_pattern(patterns):
    with pytest.raises(PatternError, match="is no pattern: expected a text such as 'layer4'"):
        choose(["layer4"], patterns)
