"""What a pickle is made of when nothing of it is executed: names, strings in their places, and objects not made."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

_MOST_AXES = 64  # as NumPy


@dataclass(frozen=True, slots=True)
class LongString:
    """A long string inside the pickle: `size` bytes from `start` on.

    coding   "" bytes as they are · "utf-8" text · "latin1" bytes written as UTF-8 text · "escape" a Python literal
    """

    start: int
    size: int
    coding: str = ""


class Stateful(ABC):
    """An object that a reader makes of a pickle, and that the pickle then gives a state."""

    __slots__ = ()

    @abstractmethod
    def set_state(self, state: object) -> None:
        """Take the state. Raises TypeError, ValueError or LookupError when it is damaged."""


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle names and the reader knows. It is not imported."""

    text: str


@dataclass(slots=True, eq=False)
class PickledRecord:
    """An object that was not made: the name of its class, what it would be made with, its state and its items."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


def key_text(key: object) -> str:
    """A key of a dictionary in a pickle, as a part of an array's name.

    Objects that were not made are named by their class: their own text may be without end, since a tuple that holds
    itself twice at each of 60 levels has 2⁶⁰ parts.
    """
    if isinstance(key, str):
        return key
    if isinstance(key, tuple):
        return f"({', '.join(map(key_text, key))})"  # `hashable` lets no tuple of tuples be a key
    if isinstance(key, Name | PickledRecord):
        return key.text if isinstance(key, Name) else key.name
    if isinstance(key, int) and key.bit_length() > 64:
        return f"number of {key.bit_length()} bits"
    return str(key) if isinstance(key, int | float | bytes | None) else type(key).__name__


def checked_sizes(sizes: object, what: str) -> tuple[int, ...]:
    """A shape or strides as a pickle gives them. Raises TypeError unless they are a few numbers of 64 bits."""
    numbers = tuple(sizes) if isinstance(sizes, tuple | list) else (None,)
    if len(numbers) > _MOST_AXES or not all(type(number) is int and number.bit_length() < 64 for number in numbers):
        raise TypeError(f"{what} is not a tuple of whole numbers")
    return numbers


def contents_of(record: PickledRecord) -> dict[Any, Any]:
    """What an object that was not made holds: of a torch module what its state dict would, else all that it was given.

    That is, in this order: what it was made with (a named tuple's values), its items, and its attributes.
    """
    held = dict(enumerate(record.arguments)) | record.items
    states = record.state if isinstance(record.state, tuple) else (record.state,)  # (attributes, slots)
    if not all(state is None or isinstance(state, dict) for state in states):
        return held | {"state": record.state}
    attributes: dict[Any, Any] = {}
    for state in states:
        attributes |= state or {}
    is_module = {"_parameters", "_buffers", "_modules"} <= attributes.keys()
    return _state_of_module(attributes) if is_module else held | attributes


def _state_of_module(attributes: dict[Any, Any]) -> dict[Any, Any]:
    """A torch module's parameters, the buffers that its state dict has, and its modules."""
    passing = attributes.get("_non_persistent_buffers_set") or ()
    parts = [attributes[name] for name in ("_parameters", "_buffers", "_modules")]
    parameters, buffers, modules = (part if isinstance(part, dict) else {} for part in parts)
    return parameters | {name: value for name, value in buffers.items() if name not in passing} | modules
