"""A job's keys in words: what a key takes, read from its type, and a value as TOML writes it."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from regraft.wording import as_toml

_BOUNDS = {"ge": "of {:g} or more", "gt": "above {:g}", "le": "at most {:g}", "lt": "below {:g}"}
_SCHEDULE = '{0 = "head", 5 = "layer4"}'
_SEVERAL = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts"}


def expected(kind: Any, given: object = None) -> str:
    """What a key of this type takes, and the word that was meant where the given one is near.

    >>> expected(Literal["names", "structure"] | None, "structur")
    'expected "names" or "structure". Did you mean "structure"?'
    """
    answers = list(dict.fromkeys(_answers(kind)))
    words = [json.loads(answer) for answer in answers if answer.startswith('"')]
    near = get_close_matches(given, words, n=1) if isinstance(given, str) else []
    told = "expected " + " or ".join(part for part in (", ".join(answers[:-1]), answers[-1]) if part)
    return told + (f'. Did you mean "{near[0]}"?' if near else "")


def _answers(kind: Any) -> list[str]:
    """The forms that a value of this type may have, each in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _within(_answers(parts[0]), parts[1:])
    if origin in (Union, UnionType):
        return [answer for part in parts if part is not NoneType for answer in _answers(part)]
    if origin is Literal:
        return [as_toml(word) for word in parts]
    if origin is not None and issubclass(origin, Mapping):
        if parts[0] is int:
            return [f"the layers of each epoch from 0, as in {_SCHEDULE} or --set 'train.schedule={_SCHEDULE}'"]
        return ['a table of texts, as in {"a" = "b"}' if parts[1] is str else "a table, as in {a = 1}"]
    if origin is not None and issubclass(origin, Sequence):
        return ["a list of " + _several(answer) for answer in _answers(parts[0])]
    names = {bool: ["true", "false"], int: ["a whole number"], float: ["a number"], str: ["a text"]}
    return names.get(kind, ["a section with keys"])


def _within(answers: list[str], marks: Sequence[Any]) -> list[str]:
    """The answers with the bounds that pydantic's fields put on them."""
    limits = [limit for mark in marks for limit in getattr(mark, "metadata", ())]
    told = [
        form.format(getattr(limit, name)) for limit in limits for name, form in _BOUNDS.items() if hasattr(limit, name)
    ]
    return [f"{answer} {' and '.join(told)}" if told else answer for answer in answers]


def _several(answer: str) -> str:
    one = next((one for one in _SEVERAL if answer.startswith(one)), "")
    return _SEVERAL[one] + answer.removeprefix(one) if one else answer
