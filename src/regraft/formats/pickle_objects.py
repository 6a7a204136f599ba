"""What a pickle is made of when nothing of it is executed: names, strings in their places, and objects not made."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Chunk:
    """A long string inside the pickle: `size` bytes from `start` on.

    coding   "" bytes as they are · "utf-8" text · "latin1" bytes written as UTF-8 text · "escape" a Python literal
    """

    start: int
    size: int
    coding: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A global that the pickle names and the reader knows. It is not imported."""

    text: str


@dataclass(slots=True, eq=False)
class Record:
    """An object that was not made: the name of its class, what it would be made with, its state and its items."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


def contents_of(record: Record) -> dict[Any, Any]:
    """What an object that was not made holds: of a torch module what its state dict would, else its attributes."""
    states = record.state if isinstance(record.state, tuple) else (record.state,)
    attributes: dict[Any, Any] = {}
    for state in states:  # (attributes, slots) where a class has both
        attributes |= state if isinstance(state, dict) else {}
    if not {"_parameters", "_buffers", "_modules"} <= attributes.keys():
        return record.items | attributes
    passing = attributes.get("_non_persistent_buffers_set") or ()
    parts = [attributes[name] for name in ("_parameters", "_buffers", "_modules")]
    parameters, buffers, modules = (part if isinstance(part, dict) else {} for part in parts)
    return parameters | {name: one for name, one in buffers.items() if name not in passing} | modules
