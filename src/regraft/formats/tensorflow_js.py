"""TensorFlow.js models: a JSON of topology and weights' names beside shards of raw numbers, quantised or not.

Source: tensorflow/tfjs, tfjs-core/src/io/types.ts and tfjs-core/src/io/io_utils.ts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint, Requirement
from regraft.containers.spans import Span, checked_size, decode
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.keras_config import Layer, read_config, with_keras_layers
from regraft.formats.keras_layers import requirements
from regraft.formats.quantised import Quantisation
from regraft.formats.roles import with_roles

_DTYPES = ("float32", "float16", "int32", "uint8", "uint16", "bool", "complex64")
_NO_GRAPH_FACTS = "This is a converted graph: batch-norms may be folded into the convolutions."


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
        stored = decode(content, self.dtype, self.shape)
        return stored if self.quantisation is None else self.quantisation.values(stored)


@final
class TensorFlowJS(Format):
    """A `model.json` of a layers model or a graph model, with its shards beside it."""

    name = "tfjs"
    layout = "tensorflow"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is a JSON object that begins with a topology or a list of weights."""
        return head.lstrip()[:1] == b"{" and (b'"modelTopology"' in head or b'"weightsManifest"' in head)

    def open(self, path: Path) -> Checkpoint:
        """The weights under their own names; those of Keras layers with the layers' settings."""
        told = _json(path)
        groups = told.get("weightsManifest")
        if not isinstance(groups, list) or not groups:
            raise CheckpointError(f'{path}: there is no "weightsManifest", so the weights cannot be found.')
        files: list[Path] = [path]
        weights: dict[str, _Weight] = {}
        for group in groups:
            shards = _shards(path, group)
            files += shards
            for name, weight in _weights(path, group, shards):
                if name in weights:
                    raise CheckpointError(f"{path}: {name} is listed twice.")
                weights[name] = weight
        if not weights:
            raise CheckpointError(f"{path} lists no weights.")
        infos = {
            name: ArrayInfo(weight.shape, weight.dtype if weight.quantisation is None else "float32", note=weight.note)
            for name, weight in weights.items()
        }
        model = _keras_model(path, told)
        facts: tuple[Requirement, ...] = tuple(requirements(model)) if model else ()
        return Checkpoint(
            path=path, format=self.name, layout="keras" if model else self.layout,
            infos=with_roles(with_keras_layers(infos, model) if model else infos),
            reader=lambda name: weights[name].read(), files=tuple(files), requirements=facts,
            notes=() if model else (_NO_GRAPH_FACTS,),
        )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(Span(path, 0, path.stat().st_size).read())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}.\nIt is damaged: download it again.") from error
    if not isinstance(told, dict):
        raise CheckpointError(f"{path} is not a JSON object. It is not a TensorFlow.js model.")
    return told


def _shards(path: Path, group: Any) -> list[Path]:
    """The files of a group, each beside the JSON. Raises CheckpointError when one lies elsewhere or is missing."""
    names = group.get("paths") if isinstance(group, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"{path}: a group of weights does not name its files. The file is damaged.")
    outside = [name for name in names if Path(name).name != name or "\\" in name or "\0" in name]
    if outside:
        raise CheckpointError(f"{path}: refused to open {outside[0]!r}: the shards must be in the folder of the model.")
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing[:9])}.")
    if len(set(names)) < len(names):
        raise CheckpointError(f"{path}: a group names one shard twice. The file is damaged.")
    return [path.parent / name for name in names]


def _weights(path: Path, group: Mapping[str, Any], shards: Sequence[Path]) -> Iterator[tuple[str, _Weight]]:
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
        told = entry.get("quantization")
        stored = dtype if told is None else told["dtype"]
        is_sound = isinstance(name, str) and all(type(axis) is int and 0 <= axis < 1 << 40 for axis in shape)
        quantisation = None
        if told is not None and stored != "float16":
            scale, minimum = float(told["scale"]), float(told["min"])
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


def _keras_model(path: Path, told: Mapping[str, Any]) -> Layer | None:
    """The description of a layers model; None for a graph model."""
    topology = told.get("modelTopology")
    if not isinstance(topology, dict):
        return None
    config = topology.get("model_config", topology)
    return read_config(json.dumps(config), path) if isinstance(config, dict) and "class_name" in config else None
