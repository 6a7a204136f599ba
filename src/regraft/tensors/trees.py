"""Nested inputs and outputs: find the tensors in them, rebuild them with others, compare two of them."""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn


class Placeholder:
    """Stands for something in a recorded structure; nothing inside it is looked at."""


Inputs = object  # a tensor (model(x)), a tuple (model(*x)) or a dict (model(**x)); each tensor has one row per example
Kind = type | tuple[type, ...]
T = TypeVar("T")
K = TypeVar("K")

NUMBERS: tuple[type, ...] = (bool, int, float, complex)
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, nn.Module, Placeholder, Tensor)
CONTAINERS = (tuple, list, deque, Mapping)


def map_tree(function: Callable[..., object], value: T, *, kind: Kind = Tensor) -> T:
    """A copy of `value` with `function` applied to every tensor (or other `kind`) in it; all else is kept.

    Goes into tuples, named tuples, lists, dictionaries, data classes and plain objects with attributes.
    """
    if isinstance(value, kind):
        return cast(T, function(value))
    walk = partial(map_tree, function, kind=kind)
    if type(value) in (tuple, list):  # first: each step of a head asks, and isinstance of a Tensor is slow
        return type(value)(map(walk, value))  # type: ignore[call-arg, call-overload]
    if type(value) is dict:
        return cast(T, {key: walk(item) for key, item in cast(dict[Any, object], value).items()})
    if isinstance(value, PLAIN) or callable(value):
        return value
    return cast(T, _rebuilt(value, walk, kind))


def find_in(value: object, kind: type[K] | tuple[type[K], ...]) -> Iterator[K]:
    """All of a kind in a nested value, in the order in which `map_tree` reaches them."""
    if isinstance(value, kind):
        yield value
    else:
        for item in _inside(value, kind):
            yield from find_in(item, kind)


def tensors_of(value: object) -> list[Tensor]:
    """All tensors in a nested value, in order."""
    return list(find_in(value, Tensor))


def numbers_of(value: object) -> list[object]:
    """All plain numbers in a nested value, in order."""
    return list(find_in(value, NUMBERS))


def leaves_of(value: object) -> list[object]:
    """All that is in nested containers and is itself no container, in order."""
    if not isinstance(value, CONTAINERS):
        return [value]
    return [leaf for part in parts_of(value).values() for leaf in leaves_of(part)]


def named_tensors(inputs: Inputs, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a tensor, tuple, list or dict of inputs with its path: ("", x), ("0", a), ("mask", m) …

    Raises TypeError for anything else in them, but None.
    """
    if isinstance(inputs, Tensor):
        yield path, inputs
    elif isinstance(inputs, CONTAINERS):
        for name, value in parts_of(inputs).items():
            yield from named_tensors(value, f"{path}.{name}" if path else str(name))
    elif inputs is not None:
        raise TypeError(f"{path or 'The input'} is a {type(inputs).__name__}, not a tensor.")


def opaque_objects(value: object) -> list[tuple[type, list[Tensor]]]:
    """The objects in a nested value that `map_tree` keeps as they are although tensors lie deep inside them.

    Each by its class and those tensors; transformers' `past_key_values` is one.
    """
    if isinstance(value, CONTAINERS) or tensors_of(value):
        return [inside for item in parts_of(value).values() for inside in opaque_objects(item)]
    tensors = _deep_tensors(value, set())
    return [(type(value), tensors)] if tensors else []


def copied(value: T) -> T:
    """A copy of nested inputs whose tensors a forward may write into; lists and dictionaries are new, too."""
    return map_tree(torch.clone, value)


def same_values(expected: Tensor, got: Tensor) -> bool:
    """Equal in shape, type and every bit of value; a NaN equals a NaN. Sparse tensors are compared with their zeros."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    expected, got = dense(expected), dense(got)
    return torch.equal(expected, got) or bool(((expected == got) | ((expected != expected) & (got != got))).all())


def dense(tensor: Tensor) -> Tensor:
    """The tensor with all its zeros, if it is sparse."""
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def parts_of(value: object) -> dict[Any, object]:
    """What a container or an object holds, by key, position or attribute; empty for a leaf."""
    if isinstance(value, PLAIN) or callable(value):
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, list, deque)):
        return dict(enumerate(value))
    return attributes_of(value)


def attributes_of(value: object) -> dict[str, object]:
    """An object's own attributes: the fields of a data class, else its dictionary and its slots."""
    if is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    slots = [name for cls in type(value).__mro__ for name in _slot_names(cls)]
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})


def _slot_names(cls: type) -> list[str]:
    """The names of the slots that a class adds."""
    slots = cls.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _inside(value: object, kind: Kind) -> list[object]:
    """What is in a container; what is in an object of which an attribute holds something of the kind."""
    items = list(parts_of(value).values())
    return items if isinstance(value, CONTAINERS) or any(_holds(item, kind) for item in items) else []


def _holds(value: object, kind: Kind) -> bool:
    """Whether there is something of the kind in this attribute, looking into containers and not into objects."""
    if isinstance(value, kind):
        return True
    return isinstance(value, CONTAINERS) and any(_holds(item, kind) for item in parts_of(value).values())


def _rebuilt(value: object, walk: Callable[..., object], kind: Kind) -> object:
    """The same kind of container or object, with `walk` applied to what it holds."""
    if isinstance(value, tuple):
        return _rebuilt_tuple(value, walk)
    if isinstance(value, list):
        return type(value)(map(walk, value))
    if isinstance(value, deque):
        return type(value)(map(walk, value), value.maxlen)
    if isinstance(value, Mapping):
        return _rebuilt_mapping(value, walk)
    if not _inside(value, kind):
        return value
    result = copy.copy(value)
    for name, item in attributes_of(value).items():
        object.__setattr__(result, name, walk(item))
    return result


def _rebuilt_tuple(value: tuple[object, ...], walk: Callable[..., object]) -> object:
    """A named tuple by `_make`, not by its constructor: that of a PackedSequence looks into its tensors."""
    make = getattr(value, "_make", tuple if isinstance(value, torch.Size) else type(value))
    return make(map(walk, value))


def _rebuilt_mapping(value: Mapping[Any, object], walk: Callable[..., object]) -> object:
    """The same kind of mapping; a data class that is one (as transformers' outputs are) is rebuilt by its fields."""
    items = {key: walk(item) for key, item in value.items()}
    if is_dataclass(value):
        return type(value)(**items)
    if not hasattr(value, "__setitem__"):
        return items
    result: Any = copy.copy(value)
    for key, item in items.items():
        result[key] = item
    return result


def _deep_tensors(value: object, seen: set[int]) -> list[Tensor]:
    """All tensors that can be reached through containers and attributes."""
    if isinstance(value, Tensor):
        return [value]
    if id(value) in seen:
        return []
    seen.add(id(value))
    return [tensor for item in parts_of(value).values() for tensor in _deep_tensors(item, seen)]
