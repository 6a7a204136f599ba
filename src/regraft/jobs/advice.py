"""Advice as its reader types it: `fresh=["head"]` is `--fresh head` or, in a job, `[plan] fresh = ["head"]`."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from regraft.errors import RegraftError

Reader = Literal["python", "command line", "job"]

# The arguments that a reader may be told to give, by the job's section; `regraft plan` has those of [plan] as options.
_SECTIONS = {
    "plan": ("reuse", "fresh", "rename", "layout", "match", "adapt", "accept", "adopt", "ema"),
    "train": ("loss", "solver", "schedule"),
}
_SECTION_OF = {key: section for section, keys in _SECTIONS.items() for key in keys}
_TEXT = r"""r?"[^"\n]*"|r?'[^'\n]*'"""
_ITEM = rf"(?:{_TEXT}|\d+|…|[\[\]:, ])"
# key=VALUE, where VALUE is a text, a list or a dictionary of texts, a word of Python, or the "…" of an example.
_ARGUMENT = re.compile(
    rf"(?<![\w.\[-])(?P<key>{'|'.join(_SECTION_OF)})="
    rf"(?P<value>{_TEXT}|\[{_ITEM}*\]|\{{{_ITEM}*\}}|True|False|…)"
)


def spelled(text: str, reader: Reader) -> str:
    """The text with every argument that it advises as this reader would type it.

    >>> spelled('Say fresh=["head"] or layout="flax".', "command line")
    'Say --fresh head or --layout flax.'
    >>> spelled('Say fresh=["head"] or layout="flax".', "job")
    'Say [plan] fresh = ["head"] or [plan] layout = "flax".'
    """
    if reader == "python":
        return text
    if reader == "job":
        return _ARGUMENT.sub(lambda found: _line_of_a_job(found["key"], found["value"]), text)
    return _ARGUMENT.sub(lambda found: _options(found["key"], found["value"]) or found[0], text)


@contextmanager
def spelled_for(reader: Reader) -> Iterator[None]:
    """Let every RegraftError that leaves the block speak as this reader types."""
    try:
        yield
    except RegraftError as error:
        error.args = (spelled(str(error), reader), *error.args[1:])
        raise


def _options(key: str, value: str) -> str:
    """The same as options of `regraft plan`; "" for what is none of them."""
    if _SECTION_OF[key] != "plan" or value == "False":
        return ""
    if value == "True":
        return f"--{key}"
    texts = [_plain(text) for text in re.findall(_TEXT, value)] or ["…"]
    if value.startswith("{"):
        texts = [f"{pattern}={replacement}" for pattern, replacement in zip(texts[::2], texts[1::2], strict=False)]
    return " ".join(f"--{key} {shlex.quote(text)}" for text in texts)


def _line_of_a_job(key: str, value: str) -> str:
    return f"[{_SECTION_OF[key]}] {key} = {_toml(value)}"


def _toml(value: str) -> str:
    """A value of Python as TOML: = in dictionaries, '…' for texts with backslashes, true for True."""
    if value in ("True", "False"):
        return value.lower()
    value = re.sub(_TEXT, lambda text: f"'{_plain(text[0])}'" if "\\" in text[0] else text[0].lstrip("r"), value)
    return re.sub(rf"({_TEXT}|\d+)\s*:\s*", r"\1 = ", value) if value.startswith("{") else value


def _plain(text: str) -> str:
    """A quoted text of Python without its quotes."""
    return text[2:-1] if text.startswith("r") else text[1:-1].replace("\\\\", "\\")
