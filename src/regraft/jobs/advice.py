"""How a door prints advice: `fresh=["head"]` in Python is `--fresh head` or, in a job, `[plan] fresh = ["head"]`."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

from regraft.errors import Advice, RegraftError
from regraft.foundation.patterns import as_patterns
from regraft.foundation.wording import toml_text

Door = Literal["python", "command line", "job"]

# The job's section of each argument. An argument of Python that no section has (data_id) is not advised to a job.
SECTIONS = {
    "plan": ("reuse", "fresh", "rename", "layout", "match", "adapt", "accept", "adopt", "ema"),
    "model": ("head",),
    "freeze": ("layers", "trainable", "upto"),
    "data": ("skip_unreadable",),
    "cache": ("folder", "views", "flip", "shift", "precision", "batch_size", "engine"),
    "train": ("task", "loss"),
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
        return _key_of_a_job(advice)
    words = _option(advice)
    return f"Pass {words} to {advice.effect}." if words else ""


@contextmanager
def spelled_for(door: Door) -> Iterator[None]:
    """Let every RegraftError that leaves the block print its advice as this door spells it."""
    try:
        yield
    except RegraftError as error:
        error.spell = partial(spelled, door=door)
        raise


def _option(advice: Advice) -> str:
    """The words to type, once for each value; "" for what no command has."""
    option, value = OPTIONS.get(advice.argument, ""), advice.value
    if not option or value is False or value is None:
        return ""
    return option if value is True else " ".join(f"{option} {shlex.quote(text)}" for text in _typed(value))


def _typed(value: object) -> list[str]:
    """A value as the words of an option that may be given again: ["a", "b"], or "pattern=replacement" each."""
    if isinstance(value, Mapping):
        return [f"{key}={part}" for key, parts in value.items() for part in as_patterns(parts)]
    return list(map(str, value)) if isinstance(value, list | tuple) else [str(value)]


def _key_of_a_job(advice: Advice) -> str:
    """The sentence that names a key of the job; "" for what no section has."""
    if advice.argument == "solver":  # a table of [train], by the class of the solver
        return f"Write [train.{type(advice.value).__name__.lower()}] to {advice.effect}."
    if advice.argument == "resume":
        return f"Pass --resume to {advice.effect}."
    section = SECTION_OF.get(advice.argument)
    line = f"[{section}] {advice.argument} = {toml_text(advice.value)}"
    option = f", or pass {OPTIONS[advice.argument]}," if advice.argument in OF_REUSE else ""
    return f"Set {line}{option} to {advice.effect}." if section else ""
