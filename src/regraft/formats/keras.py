"""Keras' files: `.h5` of Keras 2 and 3 (whole models and weights), `.weights.h5`, and the `.keras` archive."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import final

from regraft.arrays import ArrayInfo, Checkpoint, Requirement, Role
from regraft.containers.hdf5.tree import SIGNATURE, Group, InPieces, opened
from regraft.containers.spans import Located, Span
from regraft.containers.zip_archive import ZipArchive, may_hold
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.hdf5_plain import holds_group, open_plain
from regraft.formats.keras_config import Layer, read_config, snake_case
from regraft.formats.keras_graph import wiring
from regraft.formats.keras_layers import (
    ATTENTION,
    WEIGHTS,
    class_by_weights,
    facts_by_weights,
    leaf_names,
    requirements,
)
from regraft.formats.keras_weights import Weight, dequantised
from regraft.formats.roles import role_of

_CELL = re.compile(r"(lstm|gru|simple_rnn|conv_lstm\dd?|cu_dnnlstm|cu_dnngru)_cell(_\d+)?$")
_KERAS_1 = re.compile(r"_(W|b|U|[WUb]_[ifcozrh]|running_mean|running_std)(:0)?$")
_MOST_TEXT_PER_BYTE, _FREE_TEXT = 64, 1 << 16  # descriptions compress to a tenth
_MEMBERS = {"config.json", "model.weights.h5"}
_WRAPPED = {"forward_layer": 0, "backward_layer": 1, "layer": 0}
_ATTENTION_PARTS = {
    "query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "attention_output",
    "_query_dense": "query", "_key_dense": "key", "_value_dense": "value", "_output_dense": "attention_output",
}  # fmt: skip
_NO_DESCRIPTION = (
    "The file holds weights without the model's configuration: it does not record eps, padding, strides and "
    "activations. Layer types are known only where the weights determine them."
)
_NOT_RUN = (
    "{}: the layer is a Lambda: code inside the file, which was not run or read. "
    "Write the same computation in your model."
)


@final
class KerasH5(Format):
    """HDF5 files: whole models, files of `save_weights`, Keras 3's `.weights.h5`, and what others keep in HDF5."""

    name = "keras-h5"
    layout = "keras"

    def recognises(self, path: Path, head: bytes) -> bool:
        """HDF5's signature; a block of the user's own may stand before it, at a power of two from 512 on."""
        return head.startswith(SIGNATURE) or any(head[1 << n :].startswith(SIGNATURE) for n in (9, 10, 11))

    def open(self, path: Path) -> Checkpoint:
        """The weights in the order of the model's layers, named `layer/weight`."""
        with opened(Span(path, 0, path.stat().st_size)) as root:
            _refuse_keras_1(root, path)
            described = root.text("model_config")
            model = read_config(described, path) if described else None
            group = root.child("model_weights") or root
            if group.texts("layer_names") is not None:
                weights = [*_by_layer_names(group, model), *_optimizer(root)]
            elif model is None and not holds_group(root, "vars"):
                return open_plain(root)
            else:
                weights = list(_by_tree(root, model, ""))
        return _checkpoint(path, self.name, weights, model)


@final
class KerasArchive(Format):
    """`.keras` files of Keras 3 and of tf_keras: a ZIP of config.json and model.weights.h5."""

    name = "keras"
    layout = "keras"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A ZIP whose directory names both members."""
        try:
            is_archive = head.startswith(b"PK\x03\x04") and may_hold(path, _MEMBERS)
            return is_archive and ZipArchive(path).members.keys() >= _MEMBERS
        except (CheckpointError, OSError):
            return False

    def open(self, path: Path) -> Checkpoint:
        """The weights in the order of the description's layers, named `layer/weight` with the layers' real names."""
        archive = ZipArchive(path)
        missing = sorted(_MEMBERS - archive.members.keys())
        if missing:
            raise CheckpointError(f"{path}: the archive holds no {' and no '.join(missing)}. It is not a Keras model.")
        member = archive.members["model.weights.h5"]
        if member.is_deflated:
            raise CheckpointError(
                f"{path}: refused, the weights are compressed inside the archive, which Keras never does.\n"
                "Unpack it and pack it again as it was: zip -0 new.keras config.json metadata.json model.weights.h5"
            )
        described = archive.members["config.json"]
        if described.size > _MOST_TEXT_PER_BYTE * described.stored + _FREE_TEXT:
            raise CheckpointError(f"{path}: refused, the description unpacks to {described.size} bytes: a bomb.")
        model = read_config(archive.read(described).decode("utf-8", "replace"), path)
        with opened(archive.span(member)) as root:
            weights = list(_by_tree(root, model, ""))
        return _checkpoint(path, self.name, weights, model)


def _checkpoint(path: Path, name: str, weights: list[Weight], model: Layer | None) -> Checkpoint:
    """The checkpoint of these weights. Raises CheckpointError when there are none, or two have one name."""
    if model:
        facts, lambdas = (
            [*requirements(model), *wiring(model)],
            [one.path for one in model.walk() if one.class_name == "Lambda"],
        )
    else:
        weights, facts = _judged_by_weights(weights)
        lambdas = []
    weights = dequantised(weights)
    arrays = {weight.name: weight.array for weight in weights}
    if len(arrays) < len(weights) or not weights:
        twice = sorted({w.name for w in weights if sum(o.name == w.name for o in weights) > 1})
        what = f"two arrays are named {twice[0]!r}" if twice else "it holds no array"
        raise CheckpointError(f"{path}: {what}. The file is damaged, or Keras did not write it.")
    infos = {
        w.name: ArrayInfo(w.array.shape, w.array.dtype, _role(w), w.layer_type, w.note, w.layer, w.leaf)
        for w in weights
    }
    return Checkpoint(
        path=path, format=name, layout="keras", infos=infos, reader=lambda wanted: arrays[wanted].read(), files=(path,),
        requirements=tuple(facts), notes=(*([] if model else [_NO_DESCRIPTION]), *map(_NOT_RUN.format, lambdas)),
    )  # fmt: skip


def _judged_by_weights(weights: list[Weight]) -> tuple[list[Weight], list[Requirement]]:
    """Without a description: the classes and facts that a layer's weights together leave no doubt of."""
    owners = {weight.layer for weight in weights}
    parents = {owner.rpartition("/")[0] for owner in owners if owner.endswith("/query")}
    whole = {p for p in parents if {f"{p}/{part}" for part in ("query", "key", "value", "attention_output")} <= owners}
    weights = [
        replace(w, layer=w.layer.rpartition("/")[0]) if w.layer.rpartition("/")[0] in whole else w for w in weights
    ]
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for weight in weights:
        if weight.layer:
            shapes.setdefault(weight.layer, {})[weight.leaf] = weight.array.shape
    types = {layer: class_by_weights(leaves) for layer, leaves in shapes.items()}
    types |= {weight.layer: weight.layer_type for weight in weights if weight.layer_type}
    facts = [
        Requirement(layer, attribute, value)
        for layer, leaves in shapes.items()
        for attribute, value in facts_by_weights(types[layer], leaves).items()
    ]
    return [replace(weight, layer_type=types.get(weight.layer, "")) for weight in weights], facts


def _role(weight: Weight) -> Role:
    """What the array is for; a dropout keeps its random seed in the file."""
    if "seed_generator" in weight.name:
        return "counter"
    if weight.is_code or weight.leaf.endswith(("_scale", "_zero", "_amax_history", "g_idx")):
        return "constant"
    if weight.is_state:
        return "optimizer_slot" if weight.array.shape else "counter"
    return role_of(weight.name)


def _refuse_keras_1(root: Group, path: Path) -> None:
    """Raises CheckpointError for files of Keras below 2: gates apart, kernels as the backend liked, other settings."""
    group = root.child("model_weights") or root
    version = group.text("keras_version") or root.text("keras_version") or ""
    names = [name for layer in group.texts("layer_names") or () for name in _listed(group, layer)]
    is_old = version.startswith(("0.", "1.")) or group.child("layer_0") is not None
    if is_old or (not version and any(_KERAS_1.search(name) for name in names)):
        raise CheckpointError(
            f"{path}: refused, Keras {version or '1'} wrote it: it keeps gates apart, orders kernels by its backend "
            "and does not say how.\nLoad it with Keras 2.0 to 2.2, which converts it, and save it from there."
        )


def _listed(group: Group, layer: str) -> list[str]:
    """The names of a layer's weights, as the file lists them."""
    inner = group.child(layer)
    return (inner.texts("weight_names") or []) if inner else []


# --- .h5: groups named after layers, each with the list of its weights --------------------------------------------


def _by_layer_names(group: Group, model: Layer | None) -> Iterator[Weight]:
    """The weights in the order that `layer_names` and `weight_names` give, which is the model's."""
    for layer_name in (*(group.texts("layer_names") or ()), "top_level_model_weights"):
        inner = group.child(layer_name)
        if inner is None:
            continue
        for weight_name in inner.texts("weight_names") or ():
            array = inner.array(weight_name)
            if array is None:
                raise CheckpointError(
                    f"{group.span.path}: {layer_name} lists {weight_name!r}, which is not in the file."
                )
            yield _named(layer_name, weight_name, array, model)


def _named(layer_name: str, weight_name: str, array: Located | InPieces, model: Layer | None) -> Weight:
    """The weight under its layer's path and its own last name.

    Keras writes `conv_3/kernel:0` into the group `conv`, `net/conv/kernel`, or for a model inside the model
    `inner_conv/kernel:0`: what repeats the layer's name is left out, what names an inner layer is kept.
    """
    *parts, leaf = weight_name.removesuffix(":0").split("/")
    own = re.compile(re.escape(layer_name) + r"(_\d+)?$")
    at = next((index for index, part in enumerate(parts) if own.match(part)), None)
    parts = parts[at + 1 if at is not None else 0 :]
    if "stacked_rnn_cells" not in parts:  # where cells are stacked, their names tell them apart
        parts = [part for part in parts if not _CELL.match(part)]
    owner = model.child(layer_name) if model else None
    while owner and parts:
        found = _descendant(owner, parts[0])
        if found is None:
            break
        owner, parts = found, parts[1:]
    if owner and not parts and owner.class_name == "TimeDistributed" and owner.children:
        owner = owner.children[0]  # Keras 2 leaves the inner layer's name out
    layer = owner.path if owner else layer_name
    if owner is None and parts:
        layer, parts = "/".join([layer_name, *parts]), []
    layer_type = owner.class_name if owner else ""
    return Weight("/".join([layer, *parts, leaf]), array, layer, layer_type)


def _descendant(owner: Layer, name: str) -> Layer | None:
    """The child of that name, or the only layer of that name further down."""
    direct = owner.child(name)
    if direct is not None:
        return direct
    found = [layer for layer in owner.walk() if layer.name == name and layer is not owner]
    return found[0] if len(found) == 1 else None


def _optimizer(root: Group) -> Iterator[Weight]:
    """The optimiser's state, which a whole model carries along."""
    group = root.child("optimizer_weights")
    if group is None:
        return
    for name in group.texts("weight_names") or ():
        array = group.array(name)
        if array is not None:
            yield Weight(f"optimizer/{name.removesuffix(':0')}", array, "", "", is_state=True)


# --- .weights.h5 and .keras: groups named after attributes and classes, weights by number --------------------------


def _by_tree(group: Group, layer: Layer | None, path: str, class_name: str = "", owner: str = "") -> Iterator[Weight]:
    """The weights of a group and of all below it.

    layer  the group's layer in the description; None when there is no description or it does not say
    path   the readable name so far
    """
    variables = group.child("vars")
    if variables is not None:
        yield from _variables(variables, layer, path, class_name, owner)
    for key in _in_order(group, layer):
        child = group.child(key)
        if child is None or key == "vars":
            continue
        if key in ("layers", "_layer_checkpoint_dependencies"):
            yield from _container(child, layer, path)
        elif key == "optimizer" and not path:
            yield from (replace(one, is_state=True) for one in _by_tree(child, None, key))
        elif key == "cell" and (layer is None or not layer.children):
            yield from _by_tree(child, layer, path, class_name, owner)
        elif key in _ATTENTION_PARTS and class_name in ATTENTION:
            yield from _attention_part(child, f"{path}/{_ATTENTION_PARTS[key]}", class_name, owner)
        else:
            inner = _inner(layer, key)
            known = _written_name(child) if key in _WRAPPED else None
            name = inner.path if inner else "/".join(filter(None, (path, known or key)))
            yield from _by_tree(
                child, inner, name, inner.class_name if inner else _wrapped_class(child, known or key), name
            )


def _in_order(group: Group, layer: Layer | None) -> list[str]:
    """The names of the children: attention's as Keras creates them, numbers by size, others as HDF5 sorts them."""
    known = [*_ATTENTION_PARTS, *_WRAPPED]
    rank = {key: index for index, key in enumerate(known)}

    def order(key: str) -> tuple:
        return (
            key == "optimizer",
            rank.get(key, len(rank)),
            [int(p) if p.isdigit() else 0 for p in re.split(r"(\d+)", key)],
            key,
        )

    return sorted(group.names(), key=order)


def _container(group: Group, layer: Layer | None, path: str) -> Iterator[Weight]:
    """A model's layers: by the names that newer files keep beside the variables, else by Keras' own numbering."""
    automatic: dict[str, Layer] = {}
    for child in layer.children if layer else ():
        stem = snake_case(child.class_name)
        count = sum(re.fullmatch(re.escape(stem) + r"(_\d+)?", key) is not None for key in automatic)
        automatic[f"{stem}_{count}" if count else stem] = child
    found: list[tuple[int, str, Layer | None]] = []
    order = {id(child): index for index, child in enumerate(layer.children)} if layer else {}
    for key in _in_order(group, layer):
        inner = group.child(key)
        name = _written_name(inner)
        described = (layer.child(name) if layer and name else None) or automatic.get(key)
        found.append((order.get(id(described), len(order)), key, described))
    for _, key, described in sorted(found, key=lambda one: one[0]):
        inner = group.child(key)
        if inner is not None:
            name = described.name if described else _written_name(inner) or key
            whole = "/".join(filter(None, (path, name)))
            yield from _by_tree(inner, described, whole, described.class_name if described else _class_of(key), whole)


def _written_name(group: Group | None) -> str | None:
    """The layer's real name, where the file keeps it (Keras 3 from 2025 on)."""
    variables = group.child("vars") if group else None
    return variables.text("name") if variables else None


def _variables(group: Group, layer: Layer | None, path: str, class_name: str, owner: str) -> Iterator[Weight]:
    """The numbered arrays of one layer, under the names that the class gives them."""
    keys = sorted((key for key in group.names() if key.isdigit()), key=int)
    first = group.array(keys[0]) if keys else None
    is_coded = first is not None and first.dtype in ("int8", "uint8")
    leaves = leaf_names(class_name, layer.settings if layer else None, len(keys), is_coded=is_coded)
    note = ""
    if keys and class_name and leaves[0] in ("0", "gamma_or_beta"):
        note = f"the file numbers the weights of this {class_name} and does not say which is which"
    for key, leaf in zip(keys, leaves, strict=True):
        array = group.array(key)
        if array is not None:
            yield Weight("/".join(filter(None, (path, leaf))), array, owner, class_name, note)
    for key in group.names():  # a custom layer may name its own
        array = None if key.isdigit() else group.array(key)
        if array is not None:
            yield Weight("/".join(filter(None, (path, key))), array, owner, class_name)


def _attention_part(group: Group, path: str, class_name: str, owner: str) -> Iterator[Weight]:
    """One of the four projections, which are layers of their own inside an attention layer."""
    variables = group.child("vars")
    keys = sorted(filter(str.isdigit, variables.names()), key=int) if variables else []
    for key, leaf in zip(keys, ("kernel", "bias"), strict=False):
        array = variables.array(key) if variables else None
        if array is not None:
            yield Weight(f"{path}/{leaf}", array, owner, class_name)


def _inner(layer: Layer | None, key: str) -> Layer | None:
    """The layer that a wrapper keeps under this attribute."""
    if layer is None or key not in _WRAPPED or not layer.children:
        return None
    return layer.children[min(_WRAPPED[key], len(layer.children) - 1)]


def _wrapped_class(group: Group, name: str) -> str:
    """The class of a layer inside a wrapper without a description: its cell's name tells, or its own automatic one."""
    cell = _written_name(group.child("cell"))
    return _class_of(re.sub(r"_cell(_\d+)?$", "", cell) if cell else name)


def _class_of(key: str) -> str:
    """The class that an automatic name stands for: "batch_normalization_2" → "BatchNormalization"; "" for others."""
    return _CLASSES.get(re.sub(r"_\d+$", "", key), "")


_CLASSES = {snake_case(name): name for name in (*WEIGHTS, *ATTENTION)}
