"""Protocol buffers in text form (`.prototxt`): nested fields as plain dicts of lists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regraft.errors import CheckpointError

Scalar = int | float | bool | str  # an enum's word is a text
Values = list[Any]  # scalars or nested Settings
Settings = dict[str, Values]  # field name → its values
Lexeme = tuple[str, str, int]  # kind, text, line
_CLOSING = {"{": "}", "<": ">"}

LEXEME = re.compile(
    r"""\s+ | \#[^\n]* | (?P<text> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
    | (?P<mark> [{}<>:;,\[\]] ) | (?P<word> [^\s{}<>:;,\[\]"'\#]+ )""",
    re.VERBOSE,
)
DEPTH = 32  # a network's layers nest three deep; more is an attack on the stack


def parse_prototxt(text: str, path: Path) -> Settings:
    """The fields of the message that `text` writes down.

    path  for the error alone

    Raises CheckpointError with the line where the text is not protobuf text.

    >>> parse_prototxt('layer { name: "bn" batch_norm_param { eps: 1e-3 } }', Path("net.prototxt"))
    {'layer': [{'name': ['bn'], 'batch_norm_param': [{'eps': [0.001]}]}]}
    """
    lexemes = _lexemes(text, path)
    return _message(lexemes, path, end=None, depth=0)


def _lexemes(text: str, path: Path) -> Iterator[Lexeme]:
    """(kind, lexeme, line) one by one, and at the end ("mark", "", line) for ever."""
    position = line = 0
    while position < len(text):
        match = LEXEME.match(text, position)
        if match is None:
            raise CheckpointError(f"{path}, line {line + 1}: {text[position : position + 20]!r} is not protobuf text.")
        if match.lastgroup:
            yield match.lastgroup, match.group(), line + 1
        line += match.group().count("\n")
        position = match.end()
    while True:
        yield "mark", "", line + 1


def _message(lexemes: Iterator[Lexeme], path: Path, end: str | None, depth: int) -> Settings:
    """The fields up to the closing mark `end`."""
    fields: Settings = {}
    for kind, name, line in lexemes:
        if (kind, name) == ("mark", end or ""):
            break
        if kind == "mark" and name in (",", ";"):
            continue
        if kind != "word" or depth > DEPTH:
            raise CheckpointError(f"{path}, line {line}: expected the name of a field and got {name or 'the end'!r}.")
        fields.setdefault(name, []).extend(_values(lexemes, path, depth))
    return fields


def _values(lexemes: Iterator[Lexeme], path: Path, depth: int) -> Values:
    """What follows a field's name: `: value`, `: [value, …]` or `{ … }`."""
    kind, lexeme, line = next(lexemes)
    if (kind, lexeme) == ("mark", ":"):
        kind, lexeme, line = next(lexemes)
    if kind != "mark":
        return [_scalar(kind, lexeme)]
    if lexeme in _CLOSING:
        return [_message(lexemes, path, end=_CLOSING[lexeme], depth=depth + 1)]
    if lexeme == "[":
        return list(_listed(lexemes, path))
    raise CheckpointError(f"{path}, line {line}: expected a value and got {lexeme or 'the end'!r}.")


def _listed(lexemes: Iterator[Lexeme], path: Path) -> Iterator[Scalar]:
    """The values up to the closing bracket."""
    for kind, lexeme, line in lexemes:
        if kind != "mark":
            yield _scalar(kind, lexeme)
        elif lexeme == "]":
            return
        elif lexeme != ",":
            raise CheckpointError(f"{path}, line {line}: expected ']' and got {lexeme or 'the end'!r}.")


def _scalar(kind: str, lexeme: str) -> Scalar:
    """A number, a truth value, a text, or an enum's word as text."""
    if kind == "text":
        return lexeme[1:-1]
    if lexeme in ("true", "false"):
        return lexeme == "true"
    for number in (int, float):
        try:
            return number(lexeme)
        except ValueError:
            continue
    return lexeme
