"""A Keras model's JSON description as a tree of layers: names, classes, settings and who feeds whom. Nothing is run."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

from regraft.arrays import ArrayInfo
from regraft.errors import CheckpointError

Settings = Mapping[str, Any]  # a layer's own `config`

DEPTH = 32  # models nest a few deep; more is an attack on the stack


@dataclass
class KerasLayer:
    """One layer of the description.

    path      the names from the outermost model down, joined with "/"; "" is the model itself
    settings  the layer's own `config`
    inputs    names of the layers of the same model that feed it, in the order of its arguments
    shape     of its input without the batch, where the file tells it
    children  a model's layers in the network's order; the one layer, or two, inside a wrapper
    """

    path: str
    class_name: str
    settings: Settings
    inputs: tuple[str, ...] = ()
    shape: tuple[int | None, ...] | None = None
    children: list["KerasLayer"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def child(self, name: str) -> "KerasLayer | None":
        """The child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def walk(self) -> Iterator["KerasLayer"]:
        """The layer and all below it, in the network's order."""
        yield self
        for child in self.children:
            yield from child.walk()


def read_config(text: str, path: Path) -> KerasLayer:
    """The tree of layers that the JSON text describes.

    path  for the error alone

    Raises CheckpointError when the text is no model's description.
    """
    try:
        return _layer(json.loads(text), parent="", root=True, depth=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: the model's description is not a Keras configuration ({type(error).__name__}: {error}).\n"
            "The file is damaged: download it again."
        ) from error


def _layer(entry: Settings, *, parent: str, root: bool = False, depth: int) -> KerasLayer:
    """One layer with all below it.  entry  its description, parent  the path of what holds it"""
    if depth > DEPTH:
        raise ValueError(f"layers nest deeper than {DEPTH}")
    settings = entry["config"]
    if isinstance(settings, list):  # Keras 1 and 2.0 wrote a Sequential model as a bare list
        settings = {"layers": settings}
    name = str(settings.get("name") or entry.get("name") or entry["class_name"].lower())
    path = "" if root else _below(parent, name)
    inputs = feeding_names(entry.get("inbound_nodes"))
    layer = KerasLayer(path, str(entry["class_name"]), settings, inputs, _input_shape(entry))
    if isinstance(settings.get("layers"), list):
        layer.children = [
            _layer(child, parent=path, depth=depth + 1) for child in settings["layers"] if _is_layer(child)
        ]
        if layer.class_name == "Sequential" or not any(child.inputs for child in layer.children):
            _chain(layer.children)
    else:
        layer.children = _wrapped(layer, depth)
    return layer


def _below(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _is_layer(entry: object) -> TypeGuard[Settings]:
    """Whether an entry of a model's list is a layer: a bare operation (keras.ops.add) holds nothing and is none."""
    return isinstance(entry, Mapping) and "keras.src.ops" not in str(entry.get("module")) and "config" in entry


def _chain(children: list[KerasLayer]) -> None:
    """A Sequential model's layers feed each other in order."""
    for before, after in pairwise(children):
        after.inputs = (before.name,)


def _wrapped(layer: KerasLayer, depth: int) -> list[KerasLayer]:
    """The layers inside a wrapper, with the names that Keras gives their weights."""
    wrapped = layer.settings.get("layer")
    if not _is_layer(wrapped):
        return []
    inner = _layer(wrapped, parent=layer.path, depth=depth + 1)
    if layer.class_name != "Bidirectional":
        return [inner]
    backward = layer.settings.get("backward_layer")
    other = _layer(backward, parent=layer.path, depth=depth + 1) if _is_layer(backward) else inner
    stem = inner.name.removeprefix("forward_")
    names = (f"forward_{stem}", other.name if other.name.startswith("backward_") else f"backward_{stem}")
    return [
        KerasLayer(f"{layer.path}/{name}", direction.class_name, direction.settings)
        for name, direction in zip(names, (inner, other), strict=True)
    ]


def feeding_names(nodes: object) -> tuple[str, ...]:
    """The names that feed the layer's first call, in Keras 3's form or in Keras 2's."""
    if not isinstance(nodes, list) or not nodes:
        return ()
    return tuple(dict.fromkeys(_tensor_names(nodes[0], 0)))


def _tensor_names(value: object, depth: int) -> Iterator[str]:
    """Layers' names in any nesting of tensors: ["name", 0, 0, {…}] or {"keras_history": ["name", 0, 0]}."""
    inner: Iterable[Any] = ()
    match value:
        case {"keras_history": [name, *_]}:
            yield str(name)
        case Mapping():
            inner = value.values()
        case [str(name), int(), _] | [str(name), int(), _, _]:
            yield name
            inner = value[3:]  # further tensors may be keyword arguments
        case list():
            inner = value
    for item in inner if depth < DEPTH else ():
        yield from _tensor_names(item, depth + 1)


def _input_shape(entry: Settings) -> tuple[int | None, ...] | None:
    """The shape of the layer's input without the batch, which Keras 3 keeps for building."""
    build = entry.get("build_config")
    shape = build.get("input_shape") if isinstance(build, Mapping) else None
    if isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape):
        return tuple(shape[1:])
    return None


def snake_case(class_name: str) -> str:
    """The automatic name of a class, by Keras' own rule (keras/src/utils/naming.py).

    >>> [snake_case(name) for name in ("Conv2D", "BatchNormalization", "PReLU")]
    ['conv2d', 'batch_normalization', 'p_re_lu']
    """
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def with_keras_layers(infos: Mapping[str, ArrayInfo], model: KerasLayer) -> dict[str, ArrayInfo]:
    """Each array with the layer that its name begins with: by the layers' paths, or by a name that is unique."""
    by_path = {layer.path: layer for layer in model.walk() if layer.path}
    counts = Counter(layer.name for layer in by_path.values())
    by_name = {layer.name: layer for layer in by_path.values() if counts[layer.name] == 1}
    return {name: _owned(name, info, by_path, by_name) for name, info in infos.items()}


def _owned(
    name: str, info: ArrayInfo, by_path: Mapping[str, KerasLayer], by_name: Mapping[str, KerasLayer]
) -> ArrayInfo:
    """The array with its layer; the deepest part of its name that names a layer counts."""
    parts = name.split("/")
    for end in range(len(parts) - 1, 0, -1):
        owner = by_path.get("/".join(parts[:end])) or by_name.get(parts[end - 1])
        if owner is not None:
            return replace(info, layer_type=owner.class_name, layer=owner.path, leaf="/".join(parts[end:]))
    return info
