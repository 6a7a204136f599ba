"""Caffe's `.caffemodel`: a NetParameter message, read without Caffe; the `.prototxt` beside it is consulted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint, Facts, Requirement, requirements_for
from regraft.containers.protobuf import BYTES, VARINT, Fields, ProtobufFile, Value, looks_like
from regraft.containers.prototxt import Settings, parse_prototxt
from regraft.containers.spans import Located, located, whole_file
from regraft.errors import CheckpointError
from regraft.formats.format import Format

# Field numbers are those of caffe.proto (BVLC/caffe, src/caffe/proto/caffe.proto).
NET = {1: BYTES, 2: BYTES, 3: BYTES, 4: VARINT, 5: VARINT, 6: BYTES, 7: VARINT, 8: BYTES, 100: BYTES}
V1_TYPES = {
    1: "Accuracy", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 7: "EuclideanLoss", 8: "Flatten",
    14: "InnerProduct", 15: "LRN", 17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss",
    22: "Split", 23: "TanH", 25: "Eltwise", 26: "Power", 33: "Slice", 34: "MVN", 35: "AbsVal", 38: "Exp",
    39: "Deconvolution",
}  # fmt: skip
V0_TYPES = {"conv": "Convolution", "innerproduct": "InnerProduct"}
CONVOLUTION = {
    1: "num_output", 2: "bias_term", 3: "pad", 4: "kernel_size", 5: "group", 6: "stride", 9: "pad_h", 10: "pad_w",
    11: "kernel_h", 12: "kernel_w", 13: "stride_h", 14: "stride_w", 18: "dilation",
}  # fmt: skip
PARAMETERS = {  # field of LayerParameter → its name in a prototxt, and its own fields
    106: ("convolution_param", CONVOLUTION),
    117: ("inner_product_param", {1: "num_output", 2: "bias_term", 5: "axis", 6: "transpose"}),
    139: ("batch_norm_param", {1: "use_global_stats", 2: "moving_average_fraction", 3: "eps"}),
    142: ("scale_param", {1: "axis", 2: "num_axes", 4: "bias_term"}),
}
V1_PARAMETERS = {10: PARAMETERS[106], 17: ("inner_product_param", {1: "num_output", 2: "bias_term"})}
LEAVES = {
    "BatchNorm": ("mean", "variance"),
    "Bias": ("bias",),
    "LSTM": ("weight", "bias", "recurrent_weight"),
}
BGR = (
    "Most Caffe networks take BGR images from 0 to 255 minus a mean; the file does not record it. "
    "If this one does, reverse the input axis of the first convolution, or the channels of the images."
)


@dataclass
class CaffeLayer:
    """One layer of the network: its blobs' places, and its settings as a prototxt would write them."""

    name: str
    type: str
    blobs: list[Value]
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    settings: Settings = field(default_factory=dict)


@final
class Caffe(Format):
    """`.caffemodel` files of Caffe 1 and its forks: layers of all three generations of the format."""

    name = "caffe"
    layout = "caffe"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A NetParameter has no magic number: its first fields must be a name and layers, and a layer must begin."""
        fields = looks_like(head, NET)
        layers = [raw for number, raw in fields if number in (2, 100)]
        return bool(layers) and layers[0][:1] in (b"\x0a", b"\x12", b"\x1a", b"\x22") and _is_name(fields[0])

    def open(self, path: Path) -> Checkpoint:
        """The learned blobs, named `layer/leaf`, in the order of the network."""
        file = ProtobufFile(path)
        layers = list(_layers(file))
        prototxt = path.with_suffix(".prototxt")
        files, notes = [path], [BGR]
        if prototxt.is_file():
            text = bytes(whole_file(prototxt).read()).decode("utf-8", "replace")
            _apply_prototxt(layers, parse_prototxt(text, prototxt))
            files.append(prototxt)
            notes.append(f"Settings such as eps, stride and padding were read from {prototxt.name} too.")
        infos: dict[str, ArrayInfo] = {}
        readers: dict[str, Callable[[], np.ndarray]] = {}
        for name, info, read in (array for layer in layers for array in _arrays(file, layer)):
            unique = next(form for form in chain([name], (f"{name}#{n}" for n in count(2))) if form not in infos)
            infos[unique], readers[unique] = info, read
        if not infos:
            raise CheckpointError(f"{path}: {len(layers)} layers and no weights: is this a .prototxt in binary form?")
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos, reader=lambda name: readers[name](),
            files=tuple(files), requirements=tuple(_requirements(layers)), notes=tuple(notes),
        )  # fmt: skip


def _is_name(first: tuple[int, bytes]) -> bool:
    """Whether the first field is the network's name, or already a layer."""
    number, raw = first
    return number != 1 or raw.decode("utf-8", errors="replace").isprintable()


def _layers(file: ProtobufFile) -> Iterator[CaffeLayer]:
    """The layers of any generation, in the order of the file."""
    fields = file.message(file.whole)
    yield from (_old_layer(file, layer) for layer in fields[2])
    yield from (_modern_layer(file, layer) for layer in fields[100])


def _modern_layer(file: ProtobufFile, message: Value) -> CaffeLayer:
    """LayerParameter, 2014 and later."""
    fields = file.message(message)
    return CaffeLayer(
        name=file.text(fields[1]), type=file.text(fields[2]), blobs=fields[7],
        bottoms=file.texts(fields[3]), tops=file.texts(fields[4]),
        settings=_settings(file, fields, PARAMETERS),
    )  # fmt: skip


def _old_layer(file: ProtobufFile, message: Value) -> CaffeLayer:
    """V1LayerParameter, 2013, or the V0LayerParameter inside one."""
    fields = file.message(message)
    if fields[1]:
        inner = file.message(fields[1][-1])
        type_name = V0_TYPES.get(file.text(inner[2]), file.text(inner[2]))
        return CaffeLayer(file.text(inner[1]), type_name, inner[50])
    number = file.integer(fields[5])
    return CaffeLayer(
        name=file.text(fields[4]), type=V1_TYPES.get(number, f"V1 type {number}"),
        blobs=fields[6],
        bottoms=file.texts(fields[2]), tops=file.texts(fields[3]),
        settings=_settings(file, fields, V1_PARAMETERS),
    )  # fmt: skip


def _settings(file: ProtobufFile, fields: Fields, tables: dict[int, tuple[str, dict[int, str]]]) -> Settings:
    """The layer's settings in the words of a prototxt."""
    settings: Settings = {}
    for number, (group, table) in tables.items():
        for message in fields[number]:
            inside = file.message(message)
            words: Settings = {}
            for key, word in table.items():
                if word in ("eps", "moving_average_fraction"):
                    values: Sequence[float] = file.floats(inside[key])
                else:
                    values = file.integers(inside[key])
                if values:
                    words[word] = list(values)
            settings[group] = [words]
    return settings


def _apply_prototxt(layers: list[CaffeLayer], net: Settings) -> None:
    """Let the settings of a prototxt win: Caffe itself runs a network with the prototxt's."""
    described = {_first(layer, "name", ""): layer for layer in (*net.get("layer", ()), *net.get("layers", ()))}
    for layer in layers:
        for group, values in described.get(layer.name, {}).items():
            if group.endswith("_param") and isinstance(values[0], dict):
                layer.settings[group] = [{**_first(layer.settings, group, {}), **values[0]}]


def _first(fields: Settings, name: str, default: object) -> Any:
    """The field's first value."""
    return fields[name][0] if fields.get(name) else default


def _arrays(file: ProtobufFile, layer: CaffeLayer) -> Iterator[tuple[str, ArrayInfo, Callable[[], np.ndarray]]]:
    """Name, facts and reader of each blob of the layer."""
    blobs = [_blob(file, layer, index, blob) for index, blob in enumerate(layer.blobs)]
    note = ""
    divisor = blobs.pop() if layer.type == "BatchNorm" and len(blobs) == 3 else None
    if divisor is not None:
        note = "divided by the layer's third blob, the sum of its moving-average weights"
    for index, blob in enumerate(blobs):
        leaves = LEAVES.get(layer.type, ("weight", "bias"))
        leaf = leaves[index] if index < len(leaves) else str(index)
        info = ArrayInfo(blob.shape, blob.dtype, layer=layer.name, leaf=leaf, layer_type=layer.type, note=note)
        yield f"{layer.name}/{leaf}", info, partial(_divided, blob, divisor) if divisor else blob.read


def _divided(blob: Located, divisor: Located) -> np.ndarray:
    """The statistic as Caffe uses it: BatchNormLayer::Forward multiplies by 1 / divisor, and by 0 when that is 0."""
    factor = divisor.read().reshape(-1)[0]
    return blob.read() * (np.float32(1) / factor if factor else np.float32(0))


def _blob(file: ProtobufFile, layer: CaffeLayer, index: int, message: Value) -> Located:
    """The place and shape of a BlobProto. Raises CheckpointError when shape and values disagree."""
    fields = file.message(message)
    dtype = "float64" if fields[8] else "float32"
    runs = [file.span(run) for run in fields[8] or fields[5]]
    dims = _dims(file, fields)
    shape = _shape(layer.type, index, dims, legacy=not fields[7])
    blob = located(file.path, f"blob {index} of layer {layer.name!r}", runs[0].offset if runs else 0, shape, dtype)
    held = sum(run.size for run in runs)
    if len(runs) > 1 or held != blob.span.size:
        raise file.damaged(
            f"blob {index} of layer {layer.name!r} claims the shape {tuple(dims)}, {blob.span.size} bytes of {dtype}, "
            f"and holds {held} bytes in {len(runs)} runs"
        )
    return blob


def _dims(file: ProtobufFile, fields: Fields) -> list[int]:
    """The sizes as written: a BlobShape, or num, channels, height and width of older files."""
    if fields[7]:
        return file.integers(file.message(fields[7][-1])[1])
    return [file.integer(fields[number], default=1) for number in (1, 2, 3, 4)]


def _shape(layer_type: str, index: int, dims: list[int], *, legacy: bool) -> tuple[int, ...]:
    """The blob's own shape: the old format pads every shape with ones to (num, channels, height, width)."""
    ranks = {"InnerProduct": 2, "Embed": 2, "Convolution": 4, "Deconvolution": 4} if index == 0 else {}
    rank = ranks.get(layer_type, 1) if legacy else len(dims)
    while len(dims) > rank and dims[0] == 1:
        dims = dims[1:]
    return tuple(dims)


def _requirements(layers: list[CaffeLayer]) -> Iterator[Requirement]:
    """What the network's settings say of the layers that hold blobs."""
    normalised = {top: layer.name for layer in layers if layer.type == "BatchNorm" for top in layer.tops}
    for layer in layers:
        if layer.blobs:
            yield from requirements_for(layer.name, _facts(layer, normalised))


def _facts(layer: CaffeLayer, normalised: Mapping[str, str]) -> Facts:
    """The facts of one layer.  normalised  output of a batch-norm → the batch-norm"""
    if layer.type in ("Convolution", "Deconvolution") and layer.settings.get("convolution_param"):
        return convolution_settings(layer.settings["convolution_param"][0], spatial=2)
    if layer.type == "InnerProduct":
        is_transposed = bool(_first(_first(layer.settings, "inner_product_param", {}), "transpose", False))
        return {"kernel_axes": ["in", "out"] if is_transposed else ["out", "in"], "use_bias": len(layer.blobs) > 1}
    if layer.type == "BatchNorm":
        settings = _first(layer.settings, "batch_norm_param", {})
        momentum = float(_first(settings, "moving_average_fraction", 0.999))
        return {"eps": float(_first(settings, "eps", 1e-5)), "momentum": momentum, "scale": False, "center": False}
    if layer.type == "Scale" and layer.bottoms and layer.bottoms[0] in normalised:
        return {"affine_of": normalised[layer.bottoms[0]], "use_bias": len(layer.blobs) > 1}
    return {}


def convolution_settings(settings: Settings, spatial: int) -> Facts:
    """Strides, padding, dilation and groups; each may be written once, once per axis, or as _h and _w."""

    def per_axis(word: str, default: int) -> list[int]:
        if settings.get(f"{word}_h") or settings.get(f"{word}_w"):
            return [int(_first(settings, f"{word}_{axis}", default)) for axis in "hw"]
        values = [int(value) for value in settings.get(word) or [default]]
        return values if len(values) == spatial else values[:1] * spatial

    return {
        "strides": per_axis("stride", 1),
        "padding": [[pad, pad] for pad in per_axis("pad", 0)],
        "dilation": per_axis("dilation", 1),
        "groups": int(_first(settings, "group", 1)),
        "use_bias": bool(_first(settings, "bias_term", True)),
    }
