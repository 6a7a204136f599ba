"""Patterns: regular expressions that choose layers and parameters by their whole dotted names."""

import re
from collections.abc import Iterable, Sequence

from regraft.errors import PatternError
from regraft.foundation.wording import near_names

Patterns = str | Sequence[str]
WHOLE_NAMES = "A pattern must match the whole dotted name of a layer, a parameter or a parent."


def as_patterns(patterns: Patterns) -> list[str]:
    """One pattern or several, always as a list. Raises PatternError for what is no text."""
    several = [patterns] if isinstance(patterns, str) or not isinstance(patterns, Iterable) else list(patterns)
    strange = [pattern for pattern in several if not isinstance(pattern, str)]
    if strange:
        raise PatternError(f"{strange[0]!r} is no pattern: expected a text such as 'layer4', or several of them.")
    return several


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The compiled pattern. Raises PatternError with the position when it is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise PatternError(
            f"The pattern {pattern!r} is not a regular expression: {error}.\n"
            "Write a literal dot, bracket or plus with a backslash before it."
        ) from error


def exact_pattern(name: str) -> str:
    r"""A pattern that matches this name alone.

    >>> print(exact_pattern("bn1.eps"))
    bn1\.eps
    """
    return re.sub(r"([.\[\](){}+*?|^$\\])", r"\\\1", name)


def parents(name: str) -> list[str]:
    """The name and all its parents, the longest first.

    >>> parents("layer1.0.weight")
    ['layer1.0.weight', 'layer1.0', 'layer1']
    """
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def is_chosen(name: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    """Whether a pattern matches the whole of the name or the whole of one of its parents."""
    candidates = parents(name)
    return any(pattern.fullmatch(candidate) for pattern in patterns for candidate in candidates)


def choose(names: Iterable[str], patterns: Patterns, *, what: str = "layer") -> list[str]:
    """The names that the patterns choose, in the order of `names`.

    what   the word for the names in the error: "layer", "parameter" …

    Raises PatternError when any one of the patterns chooses nothing: it lists near names.

    >>> choose(["hidden1.weight", "hidden10.weight", "out.bias"], "hidden[12]")
    ['hidden1.weight']
    """
    known = list(names)
    refuse_idle(patterns, known, what=what)
    return chosen(known, patterns)


def choose_whole(names: Iterable[str], patterns: Patterns, *, what: str = "layer") -> list[str]:
    """The names that a pattern matches as a whole, without those inside them; PatternError as `choose`.

    >>> choose_whole(["layer1", "layer1.0", "layer2"], "layer1|layer2")
    ['layer1', 'layer2']
    """
    compiled = [compile_pattern(pattern) for pattern in as_patterns(patterns)]
    inside = choose(names, patterns, what=what)
    return [name for name in inside if any(pattern.fullmatch(name) for pattern in compiled)]


def chosen(names: Iterable[str], patterns: Patterns) -> list[str]:
    """The names that the patterns choose; none is no error."""
    compiled = [compile_pattern(pattern) for pattern in as_patterns(patterns)]
    return [name for name in names if is_chosen(name, compiled)]


def names_something(pattern: str) -> bool:
    r"""Whether the pattern has a letter or a digit that stands for itself.

    >>> names_something(".*"), names_something(r"\w+\.[a-z]*"), names_something(r".*\.eps")
    (False, False, True)
    """
    return re.search(r"\w", re.sub(r"\\[A-Za-z]|\[[^\]]*\]", "", pattern)) is not None


def refuse_idle(patterns: Patterns, names: Sequence[str], *, what: str) -> None:
    """Raise PatternError for the patterns that choose none of the names; it lists near names."""
    idle = [pattern for pattern in as_patterns(patterns) if not _matches_any(pattern, names)]
    if idle:
        known = list(dict.fromkeys(parent for name in names for parent in reversed(parents(name))))
        lines = [f"No {what} matches the pattern {pattern!r}. {near_names(pattern, known)}" for pattern in idle]
        raise PatternError("\n".join([*lines, WHOLE_NAMES]))


def _matches_any(pattern: str, names: Iterable[str]) -> bool:
    compiled = [compile_pattern(pattern)]
    return any(is_chosen(name, compiled) for name in names)
