"""Every error that regraft raises on purpose.

    RegraftError
    ├── PatternError       a pattern or a name that matches nothing
    ├── CheckpointError    a file that cannot be read, or that is refused
    │   └── MissingLibraryError   a reader's optional library is not installed
    ├── PlanError          arrays that do not fit the model, or a plan that cannot be applied
    │   └── UndecidableError      nothing tells in which order an array's axes are
    ├── VerifyError        outputs that differ from those of the source framework
    ├── FreezeError        layers that cannot be frozen
    ├── SplitError         a model that cannot be cut and proven equal
    ├── CacheError         features that cannot be stored, found or trusted
    │   └── DoesNotPayError   caching would take longer than it saves
    ├── DataError          examples or labels that cannot be used
    ├── TrainError         training that cannot start or go on
    ├── JobError           a job file or a command's arguments that make no sense
    └── SaveError          a folder that cannot be written or loaded

A message says what happened, which tensor or file, expected and got, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RegraftError(Exception):
    """The root: `except RegraftError` catches all that regraft raises on purpose."""


class PatternError(RegraftError):
    """A pattern or a name matches nothing; the message lists near names."""


class CheckpointError(RegraftError):
    """A checkpoint is missing, damaged, of no known format, or refused as unsafe."""


class MissingLibraryError(CheckpointError):
    """A reader needs an optional library; the message says how to install it."""


class PlanError(RegraftError):
    """A plan has problems, or does not belong to this checkpoint and model."""


class UndecidableError(PlanError):
    """Nothing tells in which order an array's axes, or a flattened map's values, are; a guess is not made."""


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
    plain = "".join(character for character in wanted if character.isalnum() or character in "._/-")
    near = get_close_matches(plain, known, n=count, cutoff=0.5)
    shown = known[:20] if len(known) <= 20 or not near else []  # near names say more than the first of hundreds
    listed = ", ".join(shown) + (f", … ({len(known) - 20} more)" if len(known) > 20 and shown else "")
    asked = "Did you mean " + ", ".join(repr(name) for name in near) + "?" if near else ""
    return f"{asked} Names: {listed}.".strip() if shown else f"{asked} There are {len(known):,} names."
