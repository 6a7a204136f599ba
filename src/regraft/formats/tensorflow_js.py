"""TensorFlow.js models: a JSON of topology and weights' names, and shards of raw numbers, quantised or not.

Source: tensorflow/tfjs, tfjs-core/src/io/types.ts and tfjs-core/src/io/io_utils.ts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint, Requirement
from regraft.containers.json_text import JsonObject, json_value
from regraft.containers.spans import Span, checked_size, decoded_array, is_file_name, whole_file
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.keras_config import read_config, with_keras_layers
from regraft.formats.keras_graph import keras_wiring
from regraft.formats.keras_layers import requirements
from regraft.formats.quantised import Quantisation
from regraft.formats.roles import with_roles
from regraft.formats.tensorflow_graph import TensorFlowGraph, requirements_of, with_graph_layers
from regraft.formats.tensorflow_nodes import GraphNode, nodes_of_json
from regraft.foundation.wording import counted

_DTYPES = ("float32", "float16", "int32", "uint8", "uint16", "bool", "complex64")
_CONVERTED = "This is a converted graph: batch-norms may be folded into the convolutions."
_NO_TOPOLOGY = (
    "This is a manifest of weights without a model: it does not record layer types, eps, padding, strides or how the "
    "layers are connected."
)
_MOST_NUMBERS = 64  # of an array that is a setting of the graph: paddings, axes


@dataclass(frozen=True, slots=True)
class _Weight:
    """One array: dtype as stored, its bytes (in one shard or over several), and how its integers become numbers."""

    dtype: str
    shape: tuple[int, ...]
    spans: tuple[Span, ...]
    quantisation: Quantisation | None
    note: str

    def read(self) -> np.ndarray:
        content = bytearray().join(span.read() for span in self.spans)
        stored = decoded_array(content, self.dtype, self.shape)
        return stored if self.quantisation is None else self.quantisation.values(stored)


@final
class TensorFlowJS(Format):
    """A `model.json` of a layers or a graph model, or a manifest of weights, with the shards in its folder."""

    name = "tfjs"
    layout = "tensorflow"

    def recognises(self, path: Path, head: bytes) -> bool:
        """JSON that begins with a topology, or with a list of weights: a manifest without its model."""
        text = head.lstrip()
        if text[:1] == b"[":
            return b'"weights"' in text and (b'"shape"' in text or b'"paths"' in text)
        return text[:1] == b"{" and (b'"modelTopology"' in text or b'"weightsManifest"' in text)

    def open(self, path: Path) -> Checkpoint:
        """The weights under their own names, with their layers and settings where the file holds the topology."""
        content = json_value(whole_file(path).read(), path)
        model = content if isinstance(content, dict) else {"weightsManifest": content}
        groups = model.get("weightsManifest")
        if not isinstance(groups, list) or not groups:
            raise CheckpointError(f'{path}: it has no "weightsManifest", so the weights cannot be found.')
        shards = [_shards(path, group) for group in groups]
        weights = _all_weights(path, groups, shards)
        files = (path, *(shard for of_group in shards for shard in of_group))
        infos = {
            name: ArrayInfo(weight.shape, weight.dtype if weight.quantisation is None else "float32", note=weight.note)
            for name, weight in weights.items()
        }
        described = _described(path, model, infos, weights)
        return Checkpoint(
            path=path, format=self.name, layout=described.layout, infos=with_roles(described.infos),
            reader=lambda name: weights[name].read(), files=files, requirements=described.requirements,
            notes=described.notes,
        )  # fmt: skip


def _all_weights(path: Path, groups: Sequence[Any], shards: Sequence[list[Path]]) -> dict[str, _Weight]:
    """The arrays of all groups."""
    weights: dict[str, _Weight] = {}
    for group, of_group in zip(groups, shards, strict=True):
        for name, weight in _weights(path, group, of_group):
            if name in weights:
                raise CheckpointError(f"{path}: {name} is listed twice.")
            weights[name] = weight
    if not weights:
        raise CheckpointError(f"{path} lists no weights.")
    return weights


@dataclass(frozen=True)
class _Described:
    """What the topology says of the weights."""

    infos: Mapping[str, ArrayInfo]
    layout: str = "tensorflow"
    requirements: tuple[Requirement, ...] = ()
    notes: tuple[str, ...] = ()


def _described(
    path: Path, model: JsonObject, infos: Mapping[str, ArrayInfo], weights: Mapping[str, _Weight]
) -> _Described:
    """The weights with what a Keras model's configuration, or the nodes of a graph model, say of them."""
    topology = model.get("modelTopology")
    if not isinstance(topology, dict):
        return _Described(infos, notes=(_NO_TOPOLOGY,))
    config = topology.get("model_config", topology)
    if isinstance(config, dict) and "class_name" in config:
        root = read_config(json.dumps(config), path)
        return _Described(with_keras_layers(infos, root), "keras", (*requirements(root), *keras_wiring(root)))
    try:
        nodes = nodes_of_json(topology)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}. Download the file again.") from error
    graph = TensorFlowGraph(nodes, infos.keys(), lambda name: _constant(nodes, weights, name))
    layers = graph.layers()
    return _Described(with_graph_layers(infos, layers), requirements=tuple(requirements_of(graph, layers)),
                      notes=(_CONVERTED,))  # fmt: skip


def _constant(nodes: Mapping[str, GraphNode], weights: Mapping[str, _Weight], name: str) -> np.ndarray | None:
    """The values of a small array among the weights; None for others."""
    node = nodes.get(name)
    if node is not None and node.op == "Identity" and node.inputs:
        name = node.inputs[0]
    weight = weights.get(name)
    return weight.read() if weight is not None and prod(weight.shape) <= _MOST_NUMBERS else None


def _shards(path: Path, group: object) -> list[Path]:
    """The files of a group, in the JSON's folder. Raises CheckpointError when one lies elsewhere or is missing."""
    names = _shard_names(path, group)
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of {counted(len(names), 'shard', 'is/are')} missing: {', '.join(missing[:9])}."
        )
    return [path.parent / name for name in names]


def _shard_names(path: Path, group: object) -> list[str]:
    """The names of a group's files. Raises CheckpointError when they are no names of files in one folder."""
    names = group.get("paths") if isinstance(group, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"{path}: a group of weights does not name its files. The file is damaged.")
    if len(set(names)) < len(names):
        raise CheckpointError(f"{path}: a group names one shard twice. The file is damaged.")
    elsewhere = next(filterfalse(is_file_name, names), None)
    if elsewhere is not None:
        raise CheckpointError(f"{path}: refused to open {elsewhere!r}: the shards must be in the folder of the model.")
    return names


def _weights(path: Path, group: Mapping[str, object], shards: Sequence[Path]) -> Iterator[tuple[str, _Weight]]:
    """The arrays of a group: they lie back to back over its shards."""
    sizes = [shard.stat().st_size for shard in shards]
    position = 0
    entries = group.get("weights")
    for entry in entries if isinstance(entries, list) else ():
        name, dtype, shape, quantisation = _entry(path, entry)
        size = checked_size(shape, dtype, path=path, name=name)
        note = ""
        if quantisation is not None:
            note = quantisation.note(dtype)
        elif dtype == "float16" and entry.get("dtype") != "float16":
            note = "stored as float16 to save space"
        spans = tuple(_spans(shards, sizes, position, size))
        position += size
        if position > sum(sizes):
            raise CheckpointError(
                f"{path}: {name} should end at byte {position} of its shards, which have {sum(sizes)}.\n"
                "They are truncated or belong to another model: download them again."
            )
        yield name, _Weight(dtype, shape, spans, quantisation, note)
    if position != sum(sizes):
        raise CheckpointError(f"{path}: the arrays of a group have {position} bytes, its shards {sum(sizes)}.")


def _entry(path: Path, entry: Any) -> tuple[str, str, tuple[int, ...], Quantisation | None]:
    """(name, dtype as stored, shape, quantisation) of one weight."""
    try:
        name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
        coding = entry.get("quantization")
        stored = dtype if coding is None else coding["dtype"]
        is_sound = isinstance(name, str) and all(type(axis) is int and 0 <= axis < 1 << 40 for axis in shape)
        quantisation = None
        if coding is not None and stored != "float16":
            scale, minimum = float(coding["scale"]), float(coding["min"])
            quantisation = Quantisation(np.array([scale]), np.empty(0), minimum=minimum)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        is_sound = False
    if not is_sound:
        raise CheckpointError(f"{path}: the entry of a weight is damaged: {str(entry)[:200]}")
    if stored not in _DTYPES:
        raise CheckpointError(f"{path}: {name} is of {stored!r}, expected one of {', '.join(_DTYPES)}.")
    return name, stored, shape, quantisation


def _spans(shards: Sequence[Path], sizes: Sequence[int], start: int, size: int) -> Iterator[Span]:
    """The parts of the shards that hold `size` bytes from `start` on, as if the shards were one file."""
    for shard, available in zip(shards, sizes, strict=True):
        if size and start < available:
            part = min(size, available - start)
            yield Span(shard, start, part)
            start, size = start + part, size - part
        start = max(0, start - available)
