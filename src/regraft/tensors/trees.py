"""Nested inputs and outputs: find the tensors in them, and rebuild them with others."""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Placeholder:
    """Stands for something in a recorded structure; nothing inside it is looked at."""


NUMBERS: tuple[type, ...] = (bool, int, float, complex)
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, nn.Module, Placeholder, Tensor)


Kind = type | tuple[type, ...]


def map_structure(function: Callable[[Any], Any], value: Any, *, kind: Kind = Tensor) -> Any:
    """A copy of `value` with `function` applied to every tensor (or other `kind`) in it; all else is kept.

    Goes into tuples, named tuples, lists, dictionaries, data classes and plain objects with attributes.
    """
    if isinstance(value, kind):
        return function(value)
    if type(value) in (tuple, list):  # first: each step of a head asks, and isinstance of a Tensor is slow
        return type(value)([map_structure(function, item, kind=kind) for item in value])
    if type(value) is dict:
        return {key: map_structure(function, item, kind=kind) for key, item in value.items()}
    if isinstance(value, PLAIN) or callable(value):
        return value
    if isinstance(value, tuple) and hasattr(value, "_make"):  # no constructor: a PackedSequence looks into its tensors
        return type(value)._make(map_structure(function, item, kind=kind) for item in value)
    if isinstance(value, torch.Size):
        return tuple(map_structure(function, item, kind=kind) for item in value)
    if isinstance(value, (tuple, list)):
        return type(value)(map_structure(function, item, kind=kind) for item in value)
    if isinstance(value, deque):
        return type(value)((map_structure(function, item, kind=kind) for item in value), value.maxlen)
    if isinstance(value, Mapping):
        return _map_mapping(function, value, kind)
    return _map_attributes(function, value, kind)


def found_in(value: Any, kind: Kind) -> Iterator[Any]:
    """All of a kind in a nested value, in the order in which `map_structure` meets them."""
    if isinstance(value, kind):
        yield value
        return
    if isinstance(value, PLAIN) or callable(value):
        return
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, (tuple, list, deque)):
        inside = list(value)
    else:
        inside = list(attributes_of(value).values())
        if not any(_holds(item, kind) for item in inside):
            return
    for item in inside:
        yield from found_in(item, kind)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in a nested value, in order."""
    return list(found_in(value, Tensor))


def sealed_of(value: Any) -> list[tuple[type, list[Tensor]]]:
    """The objects in a nested value that `map_structure` keeps as they are though tensors lie deep inside them.

    Each by its class and those tensors; transformers' `past_key_values` is one.
    """
    if isinstance(value, (Tensor, *PLAIN)) or callable(value):
        return []
    if isinstance(value, (tuple, list, deque, Mapping)) or tensors_of(value):
        return [sealed for item in _items(value) for sealed in sealed_of(item)]
    tensors = _deep_tensors(value, set())
    return [(type(value), tensors)] if tensors else []


def same_values(expected: Tensor, got: Tensor) -> bool:
    """Equal in shape, type and every bit of value; a NaN equals a NaN. Sparse tensors are compared with their zeros."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    expected, got = dense(expected), dense(got)
    return torch.equal(expected, got) or bool(((expected == got) | ((expected != expected) & (got != got))).all())


def dense(tensor: Tensor) -> Tensor:
    """The tensor with all its zeros, if it is sparse."""
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def numbers_of(value: Any) -> list[Any]:
    """All plain numbers in a nested value, in order."""
    return list(found_in(value, NUMBERS))


def _map_mapping(function: Callable[[Any], Any], value: Mapping, kind: Kind) -> Mapping:
    """The same kind of mapping; a data class that is one (as transformers' outputs are) is rebuilt by its fields."""
    items = {key: map_structure(function, item, kind=kind) for key, item in value.items()}
    if is_dataclass(value):
        return type(value)(**items)
    if hasattr(value, "__setitem__"):
        result = copy.copy(value)
        for key, item in items.items():
            result[key] = item
        return result
    return items


def _map_attributes(function: Callable[[Any], Any], value: Any, kind: Kind) -> Any:
    """A shallow copy of an object with its tensors replaced; the object itself when it holds none."""
    attributes = attributes_of(value)
    if not any(_holds(item, kind) for item in attributes.values()):
        return value
    result = copy.copy(value)
    for name, item in attributes.items():
        object.__setattr__(result, name, map_structure(function, item, kind=kind))
    return result


def attributes_of(value: Any) -> dict[str, Any]:
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


def _items(value: Any) -> list[Any]:
    """What a container or an object holds."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (tuple, list, deque)) else list(attributes_of(value).values())


def _deep_tensors(value: Any, seen: set[int]) -> list[Tensor]:
    """All tensors that can be reached through containers and attributes."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, PLAIN) or callable(value) or id(value) in seen:
        return []
    seen.add(id(value))
    return [tensor for item in _items(value) for tensor in _deep_tensors(item, seen)]


def _holds(value: Any, kind: Kind) -> bool:
    """Whether there is a tensor in this attribute, looking into the usual containers."""
    if isinstance(value, kind):
        return True
    if isinstance(value, (list, tuple, deque)):
        return any(_holds(item, kind) for item in value)
    return isinstance(value, Mapping) and any(_holds(item, kind) for item in value.values())
