"""What a forward leaves behind beside its output: attributes that it sets, lists and dictionaries that it fills."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import nn

from regraft.tensors.trees import PLAIN, attributes_of, find_in

DEPTH = 4  # containers in containers: a cache of keys and values is an object with a list of objects


class Traces:
    """What a call could change, as it was before the call: the module's attributes, the containers in its arguments."""

    def __init__(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        own = [module.__dict__, module._buffers, module._parameters, module._modules]
        held = [value for name, value in module.__dict__.items() if not name.startswith("_")]
        inside = _containers((held, args, tuple(kwargs.values())), DEPTH)
        self.before = [(container, _items(container)) for container in (*own, *inside)]

    def left(self) -> bool:
        """Whether any of them is another one now."""
        return any(not _same(_items(container), items) for container, items in self.before)


def gives_code(output: Any) -> bool:
    """Whether there is a function or an iterator in an output: the tensors that it holds are out of sight."""
    return any(True for _ in find_in(output, (FunctionType, MethodType, partial, Iterator)))


def _containers(value: Any, depth: int) -> Iterator[Any]:
    """The lists, dictionaries and objects in a value, itself included."""
    if depth == 0 or isinstance(value, PLAIN) or callable(value):
        return
    if isinstance(value, Mapping):
        inside: Iterable[Any] = value.values()
    elif isinstance(value, (tuple, list, set, deque)):
        inside = value
    else:
        inside = attributes_of(value).values()
    if not isinstance(value, tuple):
        yield value
    for item in inside:
        yield from _containers(item, depth - (not isinstance(value, tuple)))


def _items(container: Any) -> list[Any]:
    """What is in it now."""
    if isinstance(container, Mapping):
        return [*container.keys(), *container.values()]
    return list(container) if isinstance(container, (list, set, deque)) else list(attributes_of(container).values())


def _same(items: list[Any], others: list[Any]) -> bool:
    """The same objects, or equal numbers and texts."""
    return len(items) == len(others) and all(
        one is other or (type(one) is type(other) and isinstance(one, (int, float, str)) and one == other)
        for one, other in zip(items, others, strict=True)
    )
