"""Who feeds whom in a Keras model: the wiring of its layers, through models inside models."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.formats.keras_config import KerasLayer, feeding_names
from regraft.formats.keras_functions import operation_function

_MODELS = frozenset({"Functional", "Model", "Sequential"})


def keras_wiring(root: KerasLayer) -> Iterator[Requirement]:
    """For each layer the layers that feed it, `inputs` ("" is the network's input), and what it does, `operation`.

    Nothing for a model of an own class, whose description has no wiring.
    """
    if root.class_name in _MODELS:
        yield from _of_model(root, ("",))


def _of_model(model: KerasLayer, outer: tuple[str, ...]) -> Iterator[Requirement]:
    """The wiring of one model's layers; `outer` feeds its input."""
    for layer in model.children:
        if layer.class_name == "InputLayer":
            continue
        feeding = _feeding(model, layer.inputs, outer) if layer.inputs else outer
        if layer.class_name in _MODELS and layer.children:
            yield from _of_model(layer, feeding)
        else:
            yield from _connection(layer.path, feeding, layer.class_name)
            yield from requirements_for(layer.path, _of_old_operation(layer, model))
    for name, entry in _operations(model).items():
        path = _path(model, name)
        feeding = _feeding(model, feeding_names(entry["inbound_nodes"]), outer)
        yield from _connection(path, feeding, str(entry.get("class_name")))
        yield from requirements_for(path, operation_function(entry))


def _feeding(model: KerasLayer, names: Sequence[str], outer: tuple[str, ...]) -> tuple[str, ...]:
    """The layers whose values these names of a model stand for."""
    return tuple(chain.from_iterable(_outputs(model, name, outer) for name in names))


def _connection(path: str, feeding: Sequence[str], class_name: str) -> Iterator[Requirement]:
    yield Requirement(path, "inputs", list(feeding))
    yield Requirement(path, "operation", class_name)


def _operations(model: KerasLayer) -> dict[str, Mapping[str, Any]]:
    """Bare operations (a sum written with +), which are no layers: name → the entry in the model's list."""
    layers = {"", *(child.name for child in model.children)}
    return {name: entry for name, entry in _entries(model).items() if name not in layers and "inbound_nodes" in entry}


def _entries(model: KerasLayer) -> dict[str, Mapping[str, Any]]:
    """The entries of the model's list by their names."""
    listed = model.settings.get("layers")
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    return {str(entry.get("name") or ""): entry for entry in entries}


def _of_old_operation(layer: KerasLayer, model: KerasLayer) -> Facts:
    """What an operation of Keras 2 computes, which is a layer there."""
    return operation_function(_entries(model).get(layer.name, {})) if "OpL" in layer.class_name else {}


def _path(model: KerasLayer, name: str) -> str:
    return f"{model.path}/{name}" if model.path else name


def _outputs(model: KerasLayer, name: str, outer: tuple[str, ...]) -> tuple[str, ...]:
    """The layers whose values a name stands for: of an input what is outside, of a model its last layer."""
    layer = model.child(name)
    if layer is None:
        return (_path(model, name),)
    if layer.class_name == "InputLayer":
        return outer
    if layer.class_name in _MODELS and layer.children:
        return _outputs(layer, layer.children[-1].name, ())
    return (layer.path,)
