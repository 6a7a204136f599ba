"""Who feeds whom in a Keras model: the wiring of its layers, through models inside models."""

from collections.abc import Iterator

from regraft.arrays import Requirement
from regraft.formats.keras_config import Layer

_MODELS = frozenset({"Functional", "Model", "Sequential"})


def wiring(root: Layer) -> Iterator[Requirement]:
    """For each layer the layers that feed it, `inputs`, and for those without weights what they do, `operation`.

    Nothing for a model of an own class, whose description has no wiring.
    """
    if root.class_name in _MODELS:
        yield from _of_model(root, ())


def _of_model(model: Layer, outer: tuple[str, ...]) -> Iterator[Requirement]:
    """The wiring of one model's layers; `outer` feeds its input."""
    for layer in model.children:
        feeding = tuple(one for name in layer.inputs for one in _outputs(model, name, outer))
        if not layer.inputs and layer.class_name != "InputLayer":
            feeding = outer
        if layer.class_name in _MODELS and layer.children:
            yield from _of_model(layer, feeding)
        elif layer.class_name != "InputLayer":
            yield Requirement(layer.path, "inputs", list(feeding))
            yield Requirement(layer.path, "operation", layer.class_name)


def _outputs(model: Layer, name: str, outer: tuple[str, ...]) -> tuple[str, ...]:
    """The paths of the layers whose values a layer's name stands for: of an input what is outside, of a model its last."""
    layer = model.child(name)
    if layer is None:
        return ()
    if layer.class_name == "InputLayer":
        return outer
    if layer.class_name in _MODELS and layer.children:
        return _outputs(layer, layer.children[-1].name, ())
    return (layer.path,)
