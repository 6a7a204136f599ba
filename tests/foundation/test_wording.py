"""Counts, names, sizes, durations and values as text."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from regraft.foundation import wording


def test_near_names_stand_for_a_list_too_long_to_read():
    """A checkpoint has hundreds of names; the near ones say more than the first twenty."""
    told = wording.near_names("layer7", [f"layer{index}" for index in range(30)])
    assert told.startswith("Did you mean 'layer7'")
    assert told.endswith("? There are 30 names.")


def test_without_near_names_the_first_twenty_show_the_form():
    """Of a list of any length."""
    told = wording.near_names("xyz", [f"layer{index}" for index in range(30)])
    assert told.startswith("Names: layer0, layer1")
    assert told.endswith("layer19, … (10 more).")


def test_one_is_counted_in_the_singular():
    """1 tensor crosses, 2 tensors cross."""
    told = [wording.counted(number, "tensor", "crosses/cross") for number in (0, 1, 2000)]
    assert told == ["0 tensors cross", "1 tensor crosses", "2,000 tensors cross"]
    assert [wording.counted(number, "entry/entries") for number in (1, 2)] == ["1 entry", "2 entries"]


def test_no_names_are_said_to_be_none():
    """Instead of an empty list."""
    assert wording.near_names("x", []) == "There are no names to choose from."


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 kB"), (81e9, "81.0 GB"), (5.5e15, "5,500.0 TB")]
)
def test_bytes_are_in_the_unit_a_person_would_choose(size, text):
    """Powers of 1,000."""
    assert wording.bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0321, "0.032 s"), (42, "42.0 s"), (192, "3 min 12 s"), (12600, "3 h 30 min"), (1e6, "12 days")],
)
def test_durations_are_as_a_person_says_them(seconds, text):
    """From milliseconds to days."""
    assert wording.seconds_text(seconds) == text


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
        (Annotated[int, Field(description="1 (grey) or 3")], "expected 1 (grey) or 3"),
    ],
)  # fmt: skip
def test_a_type_is_told_in_the_words_of_a_job(kind, told):
    """Without Python's."""
    assert wording.expected(kind) == told


def test_a_near_word_is_asked_for():
    """Only where there is one."""
    kind = Literal["sgd", "adamw"]
    assert wording.expected(kind, "adam") == 'expected "sgd" or "adamw". Did you mean "adamw"?'
    assert wording.expected(kind, "newton") == wording.expected(kind, 3) == 'expected "sgd" or "adamw"'


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "true"),
        ("ü", '"ü"'),
        ([1, 2.5], "[1, 2.5]"),
        ({"a b": 1, "c": {"d": []}}, '{"a b" = 1, c = {d = []}}'),
        ("x" * 99, '"' + "x" * (wording.LONGEST - 2) + "…"),
    ],
)
def test_a_value_is_told_as_the_job_writes_it(value, told):
    """A long one is cut short."""
    assert wording.as_toml(value) == told


HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\rb\x08\u202etxt\u2066\u2028\x00\x7f\udcff"


def test_no_character_that_a_terminal_obeys_is_left():
    """Names come from foreign files; escapes are JSON's own."""
    shown = wording.visible(f"{HOSTILE}\n\tnext line, 層, é, 🙂")
    assert shown.endswith("\n\tnext line, 層, é, 🙂")
    assert all(character.isprintable() for character in shown.replace("\n", "").replace("\t", ""))
    assert json.loads(f'"{wording.one_line(HOSTILE)}"') == HOSTILE


def test_a_name_makes_no_line_of_its_own():
    """Nobody forges "note: trusted"."""
    assert wording.one_line("a\nnote: trusted\tx") == "a\\u000anote: trusted\\u0009x"
    assert wording.listed(["a\nb", "c"]) == "a\\u000ab, c"
