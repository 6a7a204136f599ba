"""Descriptions of networks that are damaged or hostile end in a refusal that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regraft.errors import BuildError

# What a value of another kind than expected ends in: a list for a number, a name that nothing has.
_KINDS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def refused_damage(path: Path) -> Iterator[None]:
    """Raise BuildError for errors of values that do not belong where they stand. Others pass."""
    try:
        yield
    except _KINDS as error:
        raise BuildError(
            f"{path}: the description of the network cannot be read ({type(error).__name__}: {error!s:.200}). "
            "The file is damaged, or was written in a form that regraft does not know."
        ) from error
