"""The weights of `.weights.h5` and `.keras`: groups named after attributes and classes, weights by number."""

import re
from collections.abc import Iterator
from dataclasses import replace

from regraft.containers.hdf5.tree import Group
from regraft.formats.keras_config import KerasLayer, snake_case
from regraft.formats.keras_layers import ATTENTION, WEIGHTS, leaf_names
from regraft.formats.keras_weights import Weight

_WRAPPED = {"forward_layer": 0, "backward_layer": 1, "layer": 0}
_ATTENTION_PARTS = {
    "query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "attention_output",
    "_query_dense": "query", "_key_dense": "key", "_value_dense": "value", "_output_dense": "attention_output",
}  # fmt: skip
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_FIRST_KEYS = {key: rank for rank, key in enumerate([*_ATTENTION_PARTS, *_WRAPPED])}
_CLASSES = {snake_case(name): name for name in (*WEIGHTS, *ATTENTION)}


def weights_of_tree(
    group: Group, layer: KerasLayer | None, path: str, class_name: str = "", owner: str = ""
) -> Iterator[Weight]:
    """The weights of a group and of all below it.

    layer       the group's layer in the configuration; None when there is none or it does not say
    path        the readable name so far
    class_name  of the layer, also where there is no configuration
    owner       path of the layer that owns the group's weights
    """
    variables = group.child("vars")
    if variables is not None:
        yield from _variables(variables, layer, path, class_name, owner)
    for key, child in _children(group):
        if key in _CONTAINERS:
            yield from _container(child, layer, path)
        elif key == "optimizer" and not path:
            yield from (replace(weight, is_state=True) for weight in weights_of_tree(child, None, key))
        elif key != "vars":
            yield from _weights_of_child(child, key, layer, path, class_name, owner)


def _weights_of_child(
    child: Group, key: str, layer: KerasLayer | None, path: str, class_name: str, owner: str
) -> Iterator[Weight]:
    if key == "cell" and (layer is None or not layer.children):
        return weights_of_tree(child, layer, path, class_name, owner)
    if key in _ATTENTION_PARTS and class_name in ATTENTION:
        return _attention_part(child, f"{path}/{_ATTENTION_PARTS[key]}", class_name, owner)
    return _attribute(child, key, layer, path)


def _children(group: Group) -> list[tuple[str, Group]]:
    """The groups in a group, in order."""
    return [(key, child) for key in _in_order(group) if (child := group.child(key)) is not None]


def _attribute(child: Group, key: str, layer: KerasLayer | None, path: str) -> Iterator[Weight]:
    """The weights of a layer that its owner keeps under this attribute."""
    inner = _inner(layer, key)
    if inner is not None:
        yield from weights_of_tree(child, inner, inner.path, inner.class_name, inner.path)
        return
    known = (_written_name(child) if key in _WRAPPED else "") or key
    name = _joined(path, known)
    yield from weights_of_tree(child, None, name, _wrapped_class(child, known), name)


def _joined(*parts: str) -> str:
    return "/".join(filter(None, parts))


def _in_order(group: Group) -> list[str]:
    """The names of the children: attention's as Keras creates them, numbers by size, others as HDF5 sorts them."""

    def order(key: str) -> tuple[bool, int, list[int], str]:
        numbers = [int(part) if part.isdigit() else 0 for part in re.split(r"(\d{1,9})", key)]
        return key == "optimizer", _FIRST_KEYS.get(key, len(_FIRST_KEYS)), numbers, key

    return sorted(group.names(), key=order)


def _container(group: Group, layer: KerasLayer | None, path: str) -> Iterator[Weight]:
    """A model's layers: by the names that newer files keep beside the variables, else by Keras' own numbering."""
    children = layer.children if layer else []
    automatic = _automatic_names(children)
    named = {child.name: child for child in reversed(children)}
    order = {id(child): index for index, child in enumerate(children)}
    layers = [(key, inner, named.get(_written_name(inner)) or automatic.get(key)) for key, inner in _children(group)]
    for key, inner, described in sorted(layers, key=lambda entry: order.get(id(entry[2]), len(order))):
        name = _joined(path, described.name if described else _written_name(inner) or key)
        class_name = described.class_name if described else _class_of(key)
        yield from weights_of_tree(inner, described, name, class_name, name)


def _automatic_names(children: list[KerasLayer]) -> dict[str, KerasLayer]:
    """Keras' own numbering of a model's layers: "conv2d", "conv2d_1", "dense" …"""
    names: dict[str, KerasLayer] = {}
    counts: dict[str, int] = {}
    for child in children:
        stem = snake_case(child.class_name)
        number = counts.get(stem, 0)
        counts[stem] = number + 1
        names[f"{stem}_{number}" if number else stem] = child
    return names


def _written_name(group: Group | None) -> str:
    """The layer's real name, where the file keeps it (Keras 3 from 2025 on); else ""."""
    variables = group.child("vars") if group else None
    return (variables.text("name") if variables else None) or ""


def _variables(group: Group, layer: KerasLayer | None, path: str, class_name: str, owner: str) -> Iterator[Weight]:
    """The numbered arrays of one layer, under the names that the class gives them; a custom layer may name its own."""
    arrays = {key: array for key in group.names() if (array := group.array(key)) is not None}
    numbered = sorted(filter(str.isdigit, arrays), key=int)
    is_coded = bool(numbered) and arrays[numbered[0]].dtype in ("int8", "uint8")
    leaves = leaf_names(class_name, layer.settings if layer else None, len(numbered), is_coded=is_coded)
    is_open = bool(class_name) and leaves[:1] in (("0",), ("gamma_or_beta",))
    note = f"the file numbers the weights of this {class_name} and does not record which is which" if is_open else ""
    for key, leaf in zip(numbered, leaves, strict=True):
        yield Weight(_joined(path, leaf), arrays.pop(key), owner, class_name, note)
    for key, array in arrays.items():
        yield Weight(_joined(path, key), array, owner, class_name)


def _attention_part(group: Group, path: str, class_name: str, owner: str) -> Iterator[Weight]:
    """One of the four projections, which are layers of their own inside an attention layer."""
    variables = group.child("vars")
    keys = sorted(filter(str.isdigit, variables.names()), key=int) if variables else []
    for key, leaf in zip(keys, ("kernel", "bias"), strict=False):
        array = variables.array(key) if variables else None
        if array is not None:
            yield Weight(f"{path}/{leaf}", array, owner, class_name)


def _inner(layer: KerasLayer | None, key: str) -> KerasLayer | None:
    """The layer that a wrapper keeps under this attribute."""
    if layer is None or key not in _WRAPPED or not layer.children:
        return None
    return layer.children[min(_WRAPPED[key], len(layer.children) - 1)]


def _wrapped_class(group: Group, name: str) -> str:
    """The class of a layer inside a wrapper without a configuration, by the name of its cell, or its automatic one."""
    cell = _written_name(group.child("cell"))
    return _class_of(re.sub(r"_cell(_\d+)?$", "", cell) if cell else name)


def _class_of(key: str) -> str:
    """The class that an automatic name stands for: "batch_normalization_2" → "BatchNormalization"; "" for others."""
    return _CLASSES.get(re.sub(r"_\d+$", "", key), "")
