"""How counts, names, sizes, durations, values and their types are written in messages, tables and reports."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import floor, isfinite, log10
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from regraft.errors import visible

LONGEST = 60  # letters of a value that an error repeats
LISTED = 20  # names that a sentence lists
_BOUNDS = {"ge": "of {:g} or more", "gt": "above {:g}", "le": "at most {:g}", "lt": "below {:g}"}
_SCHEDULE = '{0 = "head", 5 = "layer4"}'
_SEVERAL = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts"}
_NAMES = {bool: ["true", "false"], int: ["a whole number"], float: ["a number"], str: ["a text"]}


def one_line(text: str) -> str:
    r"""A name, or a cell of a table: visible, and no line of its own.

    >>> print(one_line("a\nnote: trusted"))
    a\u000anote: trusted
    """
    return visible(text).replace("\n", "\\u000a").replace("\t", "\\u0009")


def counted(number: int, one: str, verbs: str = "") -> str:
    """So many of them, with the verb that fits where two are given.

    >>> counted(1, "file", "holds/hold"), counted(2000, "file", "holds/hold"), counted(0, "match/matches")
    ('1 file holds', '2,000 files hold', '0 matches')
    """
    singular, _, plural = one.partition("/")
    noun = singular if number == 1 else plural or f"{singular}s"
    verb = verbs.partition("/")[2 * (number != 1)]
    return f"{number:,} {noun} {verb}".strip()


def near_names(wanted: str, names: Iterable[str], *, count: int = 5) -> str:
    """A sentence that helps after a name was not found: the nearest names, or the first ones.

    >>> near_names("fc9", ["fc1", "fc2", "head"])
    "Did you mean 'fc2', 'fc1'? Names: fc1, fc2, head."
    """
    known = list(dict.fromkeys(names))
    if not known:
        return "There are no names to choose from."
    # A pattern's own characters (dots, brackets) would hide the similarity of what it was meant to name.
    plain = re.sub(r"[^\w./-]", "", wanted)
    near = get_close_matches(plain, known, n=count, cutoff=0.5)
    asked = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    if near and len(known) > LISTED:  # near names say more than the first of hundreds
        return f"{asked}There are {len(known):,} names."
    return f"{asked}Names: {listed(known)}."


def listed(names: Sequence[str], *, count: int = LISTED) -> str:
    """The names, the first of many only.

    >>> listed(["a", "b", "c"], count=2)
    'a, b, … (1 more)'
    """
    return ", ".join(map(one_line, names[:count])) + (
        f", … ({len(names) - count:,} more)" if len(names) > count else ""
    )


def bytes_text(size: float) -> str:
    """A size in powers of 1,000, in the unit that keeps it short.

    >>> bytes_text(312), bytes_text(4_200_000), bytes_text(81e9)
    ('312 bytes', '4.2 MB', '81.0 GB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def seconds_text(seconds: float) -> str:
    """A duration: "0.032 s", "12.3 s", "3 min 12 s", "2 h 05 min", "4 days"."""
    if seconds < 0.9995:
        return f"{seconds:.3f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 72 * 60 else f"{minutes / 1440:.0f} days"


def plus_minus(value: float, error: float) -> tuple[str, str]:
    """A value and its standard error with as many decimals as the error's two leading digits need.

    >>> plus_minus(0.95842, 0.00283)
    ('0.9584', '0.0028')
    """
    if not (isfinite(value) and isfinite(error)):
        return f"{value:.4g}", f"{error:.2g}"
    decimals = min(max(1 - floor(log10(error)), 2), 6) if error > 0 else 4
    return f"{value:.{decimals}f}", f"{error:.{decimals}f}"


def share_text(share: float) -> str:
    """A share in percent, never rounded to all or nothing: 0.9996 is "> 99.9 %"."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as "64 × 3 × 3"; () is a scalar."""
    return " × ".join(str(size) for size in shape) if shape else "scalar"


def number_text(value: float | None) -> str:
    """A loss or an accuracy with four significant digits; nothing for None."""
    return "" if value is None else f"{value:.4g}"


def as_toml(value: object) -> str:
    """The value as a job would give it; a long one is cut short.

    >>> as_toml({"head": [1, True]})
    '{head = [1, true]}'
    """
    text = toml_text(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def toml_text(value: object) -> str:
    r"""The whole value as TOML; a text with backslashes in single quotes, which keep them.

    >>> print(toml_text({r"dnn/(.*)": r"\1"}))
    {"dnn/(.*)" = '\1'}
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {toml_text(part)}" for key, part in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    return str(value)


def _quoted(text: str) -> str:
    literal = "\\" in text and text.isprintable() and "'" not in text
    return f"'{text}'" if literal else json.dumps(text, ensure_ascii=False)


def _key(key: object) -> str:
    bare = str(key).replace("-", "").replace("_", "")
    return str(key) if bare.isascii() and bare.isalnum() else toml_text(str(key))


def expected(kind: object, given: object = None) -> str:
    """What a key of this type takes, and the word that was meant where the given one is near.

    >>> expected(Literal["names", "structure"] | None, "structur")
    'expected "names" or "structure". Did you mean "structure"?'
    """
    answers = list(dict.fromkeys(_answers(kind)))
    words = [json.loads(answer) for answer in answers if answer.startswith('"')]
    near = get_close_matches(given, words, n=1) if isinstance(given, str) else []
    text = "expected " + " or ".join(part for part in (", ".join(answers[:-1]), answers[-1]) if part)
    return text + (f'. Did you mean "{near[0]}"?' if near else "")


def refused(problem: Mapping[str, Any], kind: Any, given: object) -> str:
    """One of pydantic's problems with a value of this type: the value and what is allowed.

    >>> refused({"type": "int_type"}, int, "many")
    '"many": expected a whole number'
    """
    allowed = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else expected(kind, given)
    return f"{as_toml(given)}: {allowed[0].lower()}{allowed[1:]}"


def _answers(kind: Any) -> list[str]:
    """The forms that a value of this type may have, each in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _described(parts[1:]) or _within(_answers(parts[0]), parts[1:])
    if origin in (Union, UnionType):
        return [answer for part in parts if part is not NoneType for answer in _answers(part)]
    if origin is Literal:
        return list(map(as_toml, parts))
    if isinstance(origin, type):
        return [_table(*parts)] if issubclass(origin, Mapping) else list(map(_list, _answers(parts[0])))
    return _NAMES.get(kind, ["a section with keys"])


def _list(answer: str) -> str:
    """A list of such values: "a list of numbers above 0"."""
    singular = next((name for name in _SEVERAL if answer.startswith(name)), "")
    return f"a list of {_SEVERAL.get(singular, '')}{answer.removeprefix(singular)}"


def _table(key: object, value: object) -> str:
    if key is int:
        return f"the layers of each epoch from 0, as in {_SCHEDULE} or --set 'train.steps.schedule={_SCHEDULE}'"
    if value is str:
        return 'a table of texts, as in {"a" = "b"}'
    if get_origin(value) is Literal:
        return f"a table, as in {{a = {toml_text(get_args(value)[0])}}}"
    return "a table, as in {a = 1}"


def _described(marks: Sequence[Any]) -> list[str]:
    """The words that a field gives itself, where its type would not say enough."""
    return [mark.description for mark in marks if getattr(mark, "description", None)]


def _within(answers: list[str], marks: Sequence[object]) -> list[str]:
    """The answers with the bounds that pydantic's fields put on them."""
    limits = [limit for mark in marks for limit in getattr(mark, "metadata", ())]
    bounds = [
        form.format(getattr(limit, name)) for limit in limits for name, form in _BOUNDS.items() if hasattr(limit, name)
    ]
    return [f"{answer} {' and '.join(bounds)}" for answer in answers] if bounds else answers
