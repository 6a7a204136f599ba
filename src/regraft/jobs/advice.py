"""How a door prints advice: `fresh=["head"]` in Python is `--fresh head` or, in a job, `[plan] fresh = ["head"]`."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

from regraft.errors import Advice, RegraftError
from regraft.wording import toml_text

Door = Literal["python", "command line", "job"]

# The job's section of each argument. An argument of Python that no section has (data_id) is not advised to a job.
SECTIONS = {
    "plan": ("reuse", "fresh", "rename", "layout", "match", "adapt", "accept", "adopt", "ema"),
    "freeze": ("layers", "trainable", "upto"),
    "data": ("skip_unreadable",),
    "cache": ("views", "flip", "shift"),
    "train": ("loss",),
    "train.steps": ("schedule", "patience"),
    "out": ("overwrite",),
}
SECTION_OF = {argument: section for section, arguments in SECTIONS.items() for argument in arguments}
# The arguments that are options of a command: of `regraft plan`, and those that several commands have.
OPTIONS = {argument: "--" + argument.replace("_", "-") for section in ("plan", "data", "out")
           for argument in SECTIONS[section]}  # fmt: skip

OF_REUSE = ("skip_unreadable", "overwrite")  # options of `regraft reuse`, beside the job's keys


def spelled(advice: Advice, door: Door) -> str:
    """The sentence that this door prints; "" for an argument that the door does not have.

    >>> advice = Advice("fresh", ["head"], "keep the initial weights of head")
    >>> print(spelled(advice, "command line"))
    Pass --fresh head to keep the initial weights of head.
    >>> print(spelled(advice, "job"))
    Set [plan] fresh = ["head"] to keep the initial weights of head.
    """
    if door == "python":
        return str(advice)
    if door == "job":
        if advice.argument == "solver":
            return f"Write [train.{type(advice.value).__name__.lower()}] to {advice.effect}."
        section = SECTION_OF.get(advice.argument)
        line = f"[{section}] {advice.argument} = {toml_text(advice.value)}"
        option = f", or pass {OPTIONS[advice.argument]}," if advice.argument in OF_REUSE else ""
        return f"Set {line}{option} to {advice.effect}." if section else ""
    words = _option(advice)
    return f"Pass {words} to {advice.effect}." if words else ""


@contextmanager
def spelled_for(door: Door) -> Iterator[None]:
    """Let every RegraftError that leaves the block print its advice as this door spells it."""
    try:
        yield
    except RegraftError as error:
        error.args = (rewritten(error.text, door), *error.args[1:])
        error.spell = partial(spelled, door=door)
        raise


def _option(advice: Advice) -> str:
    """The words to type, once for each value; "" for what no command has."""
    option, value = OPTIONS.get(advice.argument, ""), advice.value
    if not option or value is False or value is None:
        return ""
    if value is True:
        return option
    if isinstance(value, Mapping):
        values = [f"{key}={part}" for key, part in value.items()]
    else:
        values = [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
    return " ".join(f"{option} {shlex.quote(text)}" for text in values)


_TEXT = r"""r?"[^"\n]*"|r?'[^'\n]*'"""
_ITEM = rf"(?:{_TEXT}|\d+|…|[\[\]:, ])"
# key=VALUE, where VALUE is a text, a list or a dictionary of texts, a word of Python, or the "…" of an example.
_ARGUMENT = re.compile(
    rf"(?<![\w.\[-])(?P<key>{'|'.join((*SECTIONS['plan'], 'loss'))})="
    rf"(?P<value>{_TEXT}|\[{_ITEM}*\]|\{{{_ITEM}*\}}|True|False|…)"
)


def rewritten(text: str, door: Door) -> str:
    """To go, when no text has advice in it: the text with every argument that it advises as this door types it."""
    if door == "python":
        return text
    if door == "job":
        return _ARGUMENT.sub(lambda found: _line_of_a_job(found["key"], found["value"]), text)
    return _ARGUMENT.sub(lambda found: _options(found["key"], found["value"]) or found[0], text)


def _options(key: str, value: str) -> str:
    """The same as options of `regraft plan`; "" for what is none of them."""
    if SECTION_OF[key] != "plan" or value == "False":
        return ""
    if value == "True":
        return f"--{key}"
    texts = [_plain(text) for text in re.findall(_TEXT, value)] or ["…"]
    if value.startswith("{"):
        texts = [f"{pattern}={replacement}" for pattern, replacement in zip(texts[::2], texts[1::2], strict=False)]
    return " ".join(f"--{key} {shlex.quote(text)}" for text in texts)


def _line_of_a_job(key: str, value: str) -> str:
    return f"[{SECTION_OF[key]}] {key} = {_toml(value)}"


def _toml(value: str) -> str:
    """A value of Python as TOML: = in dictionaries, '…' for texts with backslashes, true for True."""
    if value in ("True", "False"):
        return value.lower()
    value = re.sub(_TEXT, lambda text: f"'{_plain(text[0])}'" if "\\" in text[0] else text[0].lstrip("r"), value)
    return re.sub(rf"({_TEXT}|\d+)\s*:\s*", r"\1 = ", value) if value.startswith("{") else value


def _plain(text: str) -> str:
    """A quoted text of Python without its quotes."""
    return text[2:-1] if text.startswith("r") else text[1:-1].replace("\\\\", "\\")
