"""Whose state dict a file holds: other frameworks save into torch's and safetensors' containers too."""

import re
from collections.abc import Iterable, Mapping

# The word for the writer in a safetensors header → the layout; None asks the user.
_BY_WORD: Mapping[str, str | None] = {
    "pt": "torch", "torch": "torch", "pytorch": "torch", "tf": "tensorflow", "tensorflow": "tensorflow",
    "keras": "keras", "flax": "flax", "jax": "flax", "mlx": "mlx", "paddle": "paddle", "pd": "paddle",
}  # fmt: skip
# Names that one framework alone gives. Haiku and Sonnet put "~" between a module and what its constructor makes.
_BY_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("haiku", re.compile(r"(?:^|[./])~(?:[./]|$)")),
    ("paddle", re.compile(r"(?:^|[./])_(?:mean|variance)$|_\d+\.[wb]_\d+$|^StructuredToParameterName@@")),
)
_LEAF = re.compile(r"[./]?([^./]*)$")
_NEVER_TORCH = {"w", "W"}  # of Haiku, Sonnet, Chainer, Lasagne; torch's layers call theirs "weight"


def layout_by_word(word: object, names: Iterable[str]) -> str | None:
    """The layout of a file whose header has this word for its writer; without one, judged by the arrays' names."""
    return _BY_WORD.get(word.lower()) if isinstance(word, str) and word else layout_in_torch(names)


def layout_in_torch(names: Iterable[str]) -> str | None:
    """The layout of a state dict in a container of torch's: torch's own unless the names are another framework's.

    None when they are not torch's and do not say whose: then the user is asked.

    >>> layout_in_torch(["fc.weight"]), layout_in_torch(["net/~/linear/w"]), layout_in_torch(["fc/W", "fc/b"])
    ('torch', 'haiku', None)
    """
    known = list(names)
    layout = layout_by_names(known)
    if layout is not None:
        return layout
    leaves = {match[1] for name in known if (match := _LEAF.search(name))}
    return None if leaves & _NEVER_TORCH and "weight" not in leaves else "torch"


def layout_by_names(names: Iterable[str]) -> str | None:
    """The layout that only one framework's names have; None when they prove nothing."""
    known = list(names)
    return next((layout for layout, pattern in _BY_NAMES if any(map(pattern.search, known))), None)
