"""The calls of a Keras model's layers: which values each takes, in Keras 3's form and in that of Keras 1 and 2."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CallOutput:
    """A value in a Keras model: output `index` of call number `call` of a layer."""

    layer: str
    call: int = 0
    index: int = 0


@dataclass(frozen=True)
class KerasCall:
    """One call of a layer.

    arguments  tensors, lists of tensors, and plain values, in order
    named      keyword arguments, likewise
    """

    arguments: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> Iterator[CallOutput]:
        """Every tensor in the arguments, in order."""
        yield from tensors_in([self.arguments, *self.named.values()])


def tensors_in(value: object) -> Iterator[CallOutput]:
    """The tensors in a nested value."""
    if isinstance(value, CallOutput):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def calls_of(entry: Mapping[str, Any]) -> list[KerasCall]:
    """The calls of one layer's entry in a functional model."""
    nodes = entry.get("inbound_nodes") or []
    return [_call_of_3(node) if isinstance(node, Mapping) else _call_of_2(node) for node in nodes]


def _call_of_3(node: Mapping[str, Any]) -> KerasCall:
    named = {key: _value_of_3(value) for key, value in (node.get("kwargs") or {}).items()}
    return KerasCall(tuple(map(_value_of_3, node.get("args") or [])), named)


def _value_of_3(value: object) -> Any:
    if isinstance(value, Mapping):
        history = (
            (value.get("config") or {}).get("keras_history") if value.get("class_name") == "__keras_tensor__" else None
        )
        if history:
            return CallOutput(str(history[0]), int(history[1]), int(history[2]))
        if value.get("class_name") == "__tuple__":
            return tuple(map(_value_of_3, value.get("items") or []))
        return {key: _value_of_3(item) for key, item in value.items()}
    return [_value_of_3(item) for item in value] if isinstance(value, list) else value


def _call_of_2(node: Any) -> KerasCall:
    """[["name", 0, 0, {…}], …], one entry for each input; their keyword arguments are those of the call."""
    entries = [node] if _is_reference(node) else list(node.values()) if isinstance(node, Mapping) else list(node)
    tensors = [_value_of_2(entry[:3]) for entry in entries]
    named: dict[str, Any] = {}
    for entry in entries:
        if len(entry) > 3 and isinstance(entry[3], Mapping):
            named |= {key: _value_of_2(value) for key, value in entry[3].items()}
    return KerasCall((tensors[0],) if len(tensors) == 1 else (tensors,), named)


def _is_reference(value: object) -> bool:
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int)


def _value_of_2(value: Any) -> Any:
    if _is_reference(value) and isinstance(value[2], int):
        if value[0] == "_CONSTANT_VALUE":
            return value[3] if len(value) > 3 else None
        return CallOutput(value[0], value[1], value[2])
    return [_value_of_2(item) for item in value] if isinstance(value, list) else value


def outer_tensors(value: Any) -> list[CallOutput]:
    """The model's inputs or outputs: ["name", 0, 0], or a list or table of these."""
    if _is_reference(value):
        return [CallOutput(value[0], value[1], value[2])]
    items: Sequence[Any] = list(value.values()) if isinstance(value, Mapping) else value or []
    return [tensor for item in items for tensor in outer_tensors(item)]
