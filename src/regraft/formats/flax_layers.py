"""Which Flax layer an array belongs to, judged by its name and its siblings: Flax files hold nothing else."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from regraft.arrays import ArrayInfo

COLLECTIONS = {"params", "batch_stats", "target", "state", "model", "train_state"}
BOXES = {"value", "raw_value"}  # flax.nnx keeps each array in a box
AUTOMATIC = re.compile(r"([A-Z][A-Za-z0-9]*)_\d+$")  # nn.compact names a module without a name after its class
# Modules that are made of other modules, recognised by what they are made of.
COMPOSITES = {
    "LSTMCell": {"ii", "if", "ig", "io", "hi", "hf", "hg", "ho"},
    "GRUCell": {"ir", "iz", "in", "hr", "hz", "hn"},
    "MultiHeadDotProductAttention": {"query", "key", "value", "out"},
}


def with_flax_layers(infos: Mapping[str, ArrayInfo]) -> dict[str, ArrayInfo]:
    """The same arrays with `layer` and, where names and siblings determine it, `layer_type`, in Flax's terms.

    What they leave open stays "": a scale and a bias alone are LayerNorm, GroupNorm or another.
    """
    owned: dict[str, list[str]] = defaultdict(list)
    for name, info in infos.items():
        if info.role in ("weight", "ema"):
            owned["/".join(_path(name)[:-1])].append(name)
    composites = _composites(owned)
    result = dict(infos)
    for layer, names in owned.items():
        owner = _owner(layer, composites)
        leaves = {_path(name)[-1]: infos[name] for name in names}
        layer_type = composites.get(owner) or _type_of(layer.rpartition("/")[2], leaves)
        for name in names:
            leaf = "/".join(_path(name)).removeprefix(f"{owner}/")
            result[name] = replace(infos[name], layer=owner, leaf=leaf, layer_type=layer_type)
    return result


def _owner(layer: str, composites: Mapping[str, str]) -> str:
    """The composite module that a module is a part of, or the module itself."""
    parent, _, last = layer.rpartition("/")
    return parent if last in COMPOSITES.get(composites.get(parent, ""), set()) else layer


def _path(name: str) -> list[str]:
    """The name's parts without the collections at its front and without nnx's box at its end."""
    parts = name.split("/")
    while len(parts) > 2 and parts[0] in COLLECTIONS:
        parts = parts[1:]
    return parts[:-1] if len(parts) > 2 and parts[-1] in BOXES else parts


def _composites(layers: Mapping[str, list[str]]) -> dict[str, str]:
    """Parent → the composite module that its children make up."""
    children: dict[str, set[str]] = defaultdict(set)
    for layer in layers:
        parent, _, last = layer.rpartition("/")
        children[parent].add(last)
    return {
        parent: composite
        for parent, names in children.items()
        for composite, parts in COMPOSITES.items()
        if parts <= names
    }


def _type_of(last: str, leaves: Mapping[str, ArrayInfo]) -> str:
    """The class that the automatic name tells, else what the leaves leave no doubt of."""
    if match := AUTOMATIC.match(last):
        return match[1]
    if "embedding" in leaves:
        return "Embed"
    if {"mean", "var"} <= leaves.keys():
        return "BatchNorm"
    rank = len(leaves["kernel"].shape) if "kernel" in leaves else 0
    return {2: "Dense", 4: "Conv", 5: "Conv"}.get(rank, "")  # rank 3: a Conv of one axis, or a DenseGeneral
