"""Every error that regraft raises on purpose.

    RegraftError
    ├── PatternError       a pattern or a name that matches nothing
    ├── CheckpointError    a file that cannot be read, or that is refused
    │   └── MissingLibraryError   a reader's optional library is not installed
    ├── PlanError          arrays that do not fit the model, or a plan that cannot be applied
    │   └── UndecidableError      nothing tells in which order an array's axes are
    ├── BuildError         a network that cannot be built from its file
    ├── VerifyError        outputs that differ from those of the source framework
    ├── FreezeError        layers that cannot be frozen
    ├── SplitError         a model that cannot be cut and proven equal
    ├── CacheError         features that cannot be stored, found or trusted
    │   └── DoesNotPayError   caching would take longer than it saves
    ├── DataError          examples or labels that cannot be used
    ├── TrainError         training that cannot start or go on
    ├── JobError           a job file or a command's arguments that make no sense
    └── SaveError          a folder that cannot be written or loaded

A message says what happened, which tensor or file, and what was expected and found. What to do is data beside it
(`Advice`), because an argument is typed differently in Python, on the command line and in a job file.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

# C0 but tab and newline, DEL, C1, marks and overrides of direction, separators of lines, halves of surrogate pairs.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@final
@dataclass(frozen=True)
class Advice:
    """An argument to pass, and what it does.

    argument  its name in Python: "fresh"
    value     what to pass: ["head"]
    effect    completes 'Pass fresh=["head"] to …': "keep the initial weights of head"

    >>> print(Advice("fresh", ["head"], "keep the initial weights of head"))
    Pass fresh=["head"] to keep the initial weights of head.
    """

    argument: str
    value: object
    effect: str

    def __str__(self) -> str:
        return f"Pass {self.argument}={python_text(self.value)} to {self.effect}."


class RegraftError(Exception):
    """The root: `except RegraftError` catches all that regraft raises on purpose.

    text    what happened, without what to do about it
    advice  ways out, printed below the text
    spell   how one piece of advice is printed: as Python code; the command line and a job set their own form.
            An advice that is spelled "" is left out.
    """

    def __init__(self, text: str = "", *, advice: Sequence[Advice] = ()) -> None:
        super().__init__(text)
        self.advice = tuple(advice)
        self.spell: Callable[[Advice], str] = str

    @property
    def text(self) -> str:
        """The message without its advice."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return visible("\n".join([self.text, *filter(None, map(self.spell, self.advice))]))


def visible(text: str) -> str:
    r"""The text with escapes for characters that a terminal obeys instead of showing: only lines and tabs stay.

    Names come from foreign files: ESC, backspace or a right-to-left override would hide or forge what is printed. The
    escapes are JSON's own, so that JSON stays what it is.

    >>> print(visible("a\x1b[2Jb"))
    a\u001b[2Jb
    """
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def python_text(value: object) -> str:
    r"""The value as Python code, texts in double quotes; patterns with backslashes as raw strings.

    >>> print(python_text({r"dnn/(.*)": r"\1"}), python_text(["head", 2]))
    {"dnn/(.*)": r"\1"} ["head", 2]
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{python_text(key)}: {python_text(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(python_text, value)) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    if not text.isprintable() or '"' in text or text.endswith("\\"):
        return repr(text)
    return f'r"{text}"' if "\\" in text else f'"{text}"'


class PatternError(RegraftError):
    """A pattern or a name matches nothing; the message lists near names."""


class CheckpointError(RegraftError):
    """A checkpoint is missing, damaged, of no known format, or refused as unsafe."""


class MissingLibraryError(CheckpointError):
    """A reader needs an optional library; the message says how to install it."""


class PlanError(RegraftError):
    """A plan has problems, or does not belong to this checkpoint and model."""


class UndecidableError(PlanError):
    """The file does not record the order of an array's axes, or of a flattened map's values; a guess is not made.

    decided   the operations that are certain all the same, where only what comes after them is not
    """

    def __init__(self, text: str = "", *, advice: Sequence[Advice] = (), decided: Sequence[object] = ()) -> None:
        super().__init__(text, advice=advice)
        self.decided = tuple(decided)


class BuildError(RegraftError):
    """A network cannot be built from its file; the message lists every operator that has no translation."""


class VerifyError(RegraftError):
    """Outputs differ from those that the source framework recorded."""


class FreezeError(RegraftError):
    """Layers cannot be frozen, or a frozen part would not be deterministic."""


class SplitError(RegraftError):
    """A model cannot be cut into trunk and head and proven equal."""


class CacheError(RegraftError):
    """Features cannot be stored or read, or no longer belong to trunk and data."""


class DoesNotPayError(CacheError):
    """Caching would take longer than it saves in so many epochs; nothing was stored."""


class DataError(RegraftError):
    """Examples or labels cannot be used."""


class TrainError(RegraftError):
    """Training cannot start or go on."""


class JobError(RegraftError):
    """A job file or a command's arguments make no sense."""


class SaveError(RegraftError):
    """A folder cannot be written or loaded."""
