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
    """What an object that was not made holds: of a torch module what its state dict would, else all that it was given.

    That is, in this order: what it was made with (a named tuple's values), its items, and its attributes.
    """
    held = dict(enumerate(record.arguments)) | record.items
    states = record.state if isinstance(record.state, tuple) else (record.state,)
    if not all(state is None or isinstance(state, dict) for state in states):
        return held | {"state": record.state}
    attributes = {name: one for state in states if state for name, one in state.items()}  # (attributes, slots)
    if not {"_parameters", "_buffers", "_modules"} <= attributes.keys():
        return held | attributes
    passing = attributes.get("_non_persistent_buffers_set") or ()
    parts = [attributes[name] for name in ("_parameters", "_buffers", "_modules")]
    parameters, buffers, modules = (part if isinstance(part, dict) else {} for part in parts)
    return parameters | {name: one for name, one in buffers.items() if name not in passing} | modules
