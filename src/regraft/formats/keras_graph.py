"""Who feeds whom in a Keras model: the wiring of its layers, through models inside models."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from regraft.arrays import Requirement
from regraft.formats.keras_config import KerasLayer, feeding_names

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
    for name, (class_name, inputs) in _operations(model).items():
        yield from _connection(_path(model, name), _feeding(model, inputs, outer), class_name)


def _feeding(model: KerasLayer, names: Sequence[str], outer: tuple[str, ...]) -> tuple[str, ...]:
    """The layers whose values these names of a model stand for."""
    return tuple(chain.from_iterable(_outputs(model, name, outer) for name in names))


def _connection(path: str, feeding: Sequence[str], class_name: str) -> Iterator[Requirement]:
    yield Requirement(path, "inputs", list(feeding))
    yield Requirement(path, "operation", class_name)


def _operations(model: KerasLayer) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Bare operations (a sum written with +), which are no layers: name → (what it does, what feeds it)."""
    entries = model.settings.get("layers")
    listed = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    named = {str(entry.get("name") or ""): entry for entry in listed if "inbound_nodes" in entry}
    layers = {"", *(child.name for child in model.children)}
    return {
        name: (str(entry.get("class_name")), feeding_names(entry["inbound_nodes"]))
        for name, entry in named.items()
        if name not in layers
    }


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
