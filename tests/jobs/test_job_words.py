"""What a key takes, in words."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from regraft.jobs.job_words import expected
from regraft.wording import LONGEST, as_toml


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (str | None, "expected a text"),
        (bool | Literal["auto"], 'expected true, false or "auto"'),
        (Annotated[int, Field(ge=1)] | None, "expected a whole number of 1 or more"),
        (Annotated[float, Field(ge=0, lt=1)], "expected a number of 0 or more and below 1"),
        (float | list[float], "expected a number or a list of numbers"),
        (str | Sequence[str], "expected a text or a list of texts"),
        (Mapping[str, str], 'expected a table of texts, as in {"a" = "b"}'),
        (Mapping[str, Any], "expected a table, as in {a = 1}"),
    ],
)  # fmt: skip
def test_a_type_is_told_in_the_words_of_a_job(kind, told):
    """Without Python's."""
    assert expected(kind) == told


def test_a_near_word_is_asked_for():
    """Only where there is one."""
    kind = Literal["sgd", "adamw"]
    assert expected(kind, "adam") == 'expected "sgd" or "adamw". Did you mean "adamw"?'
    assert expected(kind, "newton") == expected(kind, 3) == 'expected "sgd" or "adamw"'


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "true"),
        ("ü", '"ü"'),
        ([1, 2.5], "[1, 2.5]"),
        ({"a b": 1, "c": {"d": []}}, '{"a b" = 1, c = {d = []}}'),
        ("x" * 99, '"' + "x" * (LONGEST - 2) + "…"),
    ],
)
def test_a_value_is_told_as_the_job_writes_it(value, told):
    """A long one is cut short."""
    assert as_toml(value) == told
