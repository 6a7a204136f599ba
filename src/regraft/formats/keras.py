"""Keras' files: `.h5` of Keras 2 and 3 (whole models and weights), `.weights.h5`, and the `.keras` archive."""

import re
from collections import Counter, defaultdict
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
from regraft.formats.keras_config import KerasLayer, read_config
from regraft.formats.keras_graph import keras_wiring
from regraft.formats.keras_layers import class_by_weights, facts_by_weights, requirements
from regraft.formats.keras_tree import weights_of_tree
from regraft.formats.keras_weights import Weight, dequantised
from regraft.formats.roles import role_of

_CELL = re.compile(r"(lstm|gru|simple_rnn|conv_lstm\dd?|cu_dnnlstm|cu_dnngru)_cell(_\d+)?$")
_KERAS_1 = re.compile(r"_(W|b|U|[WUb]_[ifcozrh]|running_mean|running_std)(:0)?$")
_MOST_TEXT_PER_BYTE, _FREE_TEXT = 64, 1 << 16  # descriptions compress to a tenth
_PROJECTIONS = ("query", "key", "value", "attention_output")
WEIGHTS_MEMBER = "model.weights.h5"
_MEMBERS = {"config.json", WEIGHTS_MEMBER}
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
            group = root.child("model_weights") or root
            if group.texts("layer_names") is None and not root.text("model_config") and not holds_group(root, "vars"):
                return open_plain(root)
            model, weights = _h5_weights(root, path)
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
        member = archive.members[WEIGHTS_MEMBER]
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
            weights = list(weights_of_tree(root, model, ""))
        return _checkpoint(path, self.name, weights, model)


def places_in(path: Path) -> tuple[dict[str, Located], int]:
    """(name → where the array lies, offset of the HDF5 file) of a `.keras` or `.h5` file, for arrays in one piece."""
    if path.suffix == ".keras":
        archive = ZipArchive(path)
        span = archive.span(archive.members[WEIGHTS_MEMBER])
        model = read_config(archive.read(archive.members["config.json"]).decode("utf-8", "replace"), path)
        with opened(span) as root:
            weights = list(weights_of_tree(root, model, ""))
    else:
        span = Span(path, 0, path.stat().st_size)
        with opened(span) as root:
            _, weights = _h5_weights(root, path)
    return {weight.name: weight.array for weight in weights if isinstance(weight.array, Located)}, span.offset


def _h5_weights(root: Group, path: Path) -> tuple[KerasLayer | None, list[Weight]]:
    """The configuration and the weights of an HDF5 file that Keras wrote."""
    described = root.text("model_config")
    model = read_config(described, path) if described else None
    group = root.child("model_weights") or root
    if group.texts("layer_names") is not None:
        return model, [*_by_layer_names(group, model), *_optimizer(root)]
    return model, list(weights_of_tree(root, model, ""))


def _checkpoint(path: Path, name: str, weights: list[Weight], model: KerasLayer | None) -> Checkpoint:
    """The checkpoint of these weights. Raises CheckpointError when there are none, or two have one name."""
    notes: tuple[str, ...] = (_NO_DESCRIPTION,)
    if model:
        facts = [*requirements(model), *keras_wiring(model)]
        notes = tuple(_NOT_RUN.format(layer.path) for layer in model.walk() if layer.class_name == "Lambda")
    else:
        weights, facts = _judged_by_weights(weights)
    weights = dequantised(weights)
    arrays = {weight.name: weight.array for weight in weights}
    if not weights:
        raise CheckpointError(f"{path}: it holds no array. The file is damaged, or Keras did not write it.")
    if len(arrays) < len(weights):
        counts = Counter(weight.name for weight in weights)
        raise CheckpointError(f"{path}: two arrays are named {counts.most_common(1)[0][0]!r}. The file is damaged.")
    infos = {
        w.name: ArrayInfo(w.array.shape, w.array.dtype, _role(w), w.layer_type, w.note, w.layer, w.leaf)
        for w in weights
    }
    return Checkpoint(
        path=path, format=name, layout="keras", infos=infos, reader=lambda wanted: arrays[wanted].read(), files=(path,),
        requirements=tuple(facts), notes=notes,
    )  # fmt: skip


def _judged_by_weights(weights: list[Weight]) -> tuple[list[Weight], list[Requirement]]:
    """Without a configuration: the classes and facts that a layer's weights together leave no doubt of."""
    weights = _with_whole_attention(weights)
    shapes: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for weight in weights:
        if weight.layer:
            shapes[weight.layer][weight.leaf] = weight.array.shape
    types = {layer: class_by_weights(leaves) for layer, leaves in shapes.items()}
    types |= {weight.layer: weight.layer_type for weight in weights if weight.layer_type}
    facts = [
        Requirement(layer, attribute, value)
        for layer, leaves in shapes.items()
        for attribute, value in facts_by_weights(types[layer], leaves).items()
    ]
    return [replace(weight, layer_type=types.get(weight.layer, "")) for weight in weights], facts


def _with_whole_attention(weights: list[Weight]) -> list[Weight]:
    """The four projections of an attention layer as weights of one layer, where all four are there."""
    owners = {weight.layer for weight in weights}
    parents = {owner.rpartition("/")[0] for owner in owners if owner.endswith("/query")}
    complete = {parent for parent in parents if {f"{parent}/{part}" for part in _PROJECTIONS} <= owners}
    return [
        replace(weight, layer=parent) if (parent := weight.layer.rpartition("/")[0]) in complete else weight
        for weight in weights
    ]


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
    if version.startswith(("0.", "1.")) or (not version and (group.has_attribute("nb_layers") or _names_of_1(group))):
        raise CheckpointError(
            f"{path}: refused, because Keras {version or '1'} wrote it. Keras 1 stores gates separately, and kernels "
            "in the order of its backend, which the file does not record.\nLoad it with Keras 2.0 to 2.2, which "
            "converts it, and save it again."
        )


def _names_of_1(group: Group) -> bool:
    """Whether a weight is named as Keras 1 names them: "dense_1_W"."""
    names = (name for layer in group.texts("layer_names") or () for name in _listed(group, layer))
    return any(_KERAS_1.search(name) for name in names)


def _listed(group: Group, layer: str) -> list[str]:
    """The names of a layer's weights, as the file lists them."""
    inner = group.child(layer)
    return (inner.texts("weight_names") or []) if inner else []


def _by_layer_names(group: Group, model: KerasLayer | None) -> Iterator[Weight]:
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


def _named(layer_name: str, weight_name: str, array: Located | InPieces, model: KerasLayer | None) -> Weight:
    """The weight under its layer's path and its own last name.

    Keras writes `conv_3/kernel:0` into the group `conv`, `net/conv/kernel`, or for a model inside the model
    `inner_conv/kernel:0`: what repeats the layer's name is left out, what names an inner layer is kept.
    """
    *parts, leaf = weight_name.removesuffix(":0").split("/")
    parts = _without_layer_name(parts, layer_name)
    owner = model.child(layer_name) if model else None
    if owner is None:
        layer = "/".join([layer_name, *parts])
        return Weight(f"{layer}/{leaf}", array, layer, "")
    while parts and (inner := _descendant(owner, parts[0])) is not None:
        owner, parts = inner, parts[1:]
    if not parts and owner.class_name == "TimeDistributed" and owner.children:
        owner = owner.children[0]  # Keras 2 leaves the inner layer's name out
    return Weight("/".join([owner.path, *parts, leaf]), array, owner.path, owner.class_name)


def _without_layer_name(parts: list[str], layer_name: str) -> list[str]:
    """The scopes of a weight's name behind the layer's own, without those of recurrent cells."""
    own = re.compile(re.escape(layer_name) + r"(_\d+)?$")
    index = next((index for index, part in enumerate(parts) if own.match(part)), -1)
    parts = parts[index + 1 :]
    if "stacked_rnn_cells" in parts:  # where cells are stacked, their names tell them apart
        return parts
    return [part for part in parts if not _CELL.match(part)]


def _descendant(owner: KerasLayer, name: str) -> KerasLayer | None:
    """The child of that name, or the only layer of that name further down."""
    direct = owner.child(name)
    if direct is not None:
        return direct
    named = [layer for layer in owner.walk() if layer.name == name and layer is not owner]
    return named[0] if len(named) == 1 else None


def _optimizer(root: Group) -> Iterator[Weight]:
    """The optimiser's state, which a whole model carries along."""
    group = root.child("optimizer_weights")
    if group is None:
        return
    for name in group.texts("weight_names") or ():
        array = group.array(name)
        if array is not None:
            yield Weight(f"optimizer/{name.removesuffix(':0')}", array, "", "", is_state=True)
