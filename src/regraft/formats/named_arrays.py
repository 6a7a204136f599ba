"""Nested dictionaries and lists of arrays → one name for each array, joined by dots."""

from collections.abc import Callable, Iterator
from typing import Any

from regraft.containers.pickle_objects import Record, contents_of
from regraft.errors import CheckpointError
from regraft.formats.pickled_numpy import PickledArray

_DEEPEST = 64


def named_leaves(root: Any, is_leaf: Callable[[Any], bool], *, limit: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path of keys, leaf) for all leaves under dictionaries, lists, tuples and objects, in their order.

    limit   visits before it is refused: a list that holds itself twice at each of 40 levels has 2⁴⁰ paths

    Raises CheckpointError (without a file's name) when it is nested too deeply or shared too often.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    visits = 0
    while waiting:
        path, value = waiting.pop()
        visits += 1
        if visits > limit or len(path) > _DEEPEST:
            raise CheckpointError("the objects are nested in one another without end")
        if isinstance(value, PickledArray) and isinstance(value.content, list):
            waiting.append((path, value.content))  # an array of objects
        elif is_leaf(value):
            yield path, value
        elif isinstance(value, Record):
            waiting.append((path, contents_of(value)))
        elif isinstance(value, dict):
            waiting += [((*path, str(key)), item) for key, item in reversed(value.items())]
        elif isinstance(value, (list, tuple)):
            # Long lists of plain values (a history of losses, say) hold no arrays.
            waiting += [((*path, str(index)), item) for index, item in reversed(list(enumerate(value)))]
