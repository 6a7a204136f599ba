"""Nested inputs and outputs: find the tensors in them, and rebuild them with others."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Placeholder:
    """Stands for something in a recorded structure; nothing inside it is looked at."""


NUMBERS: tuple[type, ...] = (bool, int, float, complex)
PLAIN = (str, bytes, int, float, complex, bool, type(None), type, nn.Module, Placeholder)


Kind = type | tuple[type, ...]


def map_structure(function: Callable[[Any], Any], value: Any, *, kind: Kind = Tensor) -> Any:
    """A copy of `value` with `function` applied to every tensor (or other `kind`) in it; all else is kept.

    Goes into tuples, named tuples, lists, dictionaries, data classes and plain objects with attributes.
    """
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, PLAIN) or callable(value):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_structure(function, item, kind=kind) for item in value))
    if isinstance(value, torch.Size):
        return tuple(map_structure(function, item, kind=kind) for item in value)
    if isinstance(value, (tuple, list)):
        return type(value)(map_structure(function, item, kind=kind) for item in value)
    if isinstance(value, Mapping):
        return _map_mapping(function, value, kind)
    return _map_attributes(function, value, kind)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in a nested value, in order."""
    found: list[Tensor] = []
    map_structure(found.append, value)
    return found


def numbers_of(value: Any) -> list[Any]:
    """All plain numbers in a nested value, in order."""
    found: list[Any] = []
    map_structure(found.append, value, kind=NUMBERS)
    return found


def _map_mapping(function: Callable[[Any], Any], value: Mapping, kind: Kind) -> Mapping:
    """The same kind of mapping; a data class that is one (as transformers' outputs are) is rebuilt by its fields."""
    items = {key: map_structure(function, item, kind=kind) for key, item in value.items()}
    if type(value) is dict:
        return items
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
    if is_dataclass(value):
        attributes = {item.name: getattr(value, item.name) for item in fields(value)}
    else:
        attributes = dict(getattr(value, "__dict__", {}))
    if not any(_holds(item, kind) for item in attributes.values()):
        return value
    result = copy.copy(value)
    for name, item in attributes.items():
        object.__setattr__(result, name, map_structure(function, item, kind=kind))
    return result


def _holds(value: Any, kind: Kind) -> bool:
    """Whether there is a tensor in this attribute, looking into the usual containers."""
    if isinstance(value, kind):
        return True
    if isinstance(value, (list, tuple)):
        return any(_holds(item, kind) for item in value)
    return isinstance(value, Mapping) and any(_holds(item, kind) for item in value.values())
