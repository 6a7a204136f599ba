"""The network of a Caffe model, by the `.prototxt` beside it. Source: BVLC/caffe, src/caffe/layers/*.cpp."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.arrays import Checkpoint
from regraft.containers.prototxt import Settings, parse_prototxt
from regraft.containers.spans import whole_file
from regraft.formats.caffe import convolution_settings
from regraft.networks.network import (
    Array,
    Input,
    Literal,
    Network,
    NetworkInput,
    Node,
    Sizes,
    Untranslated,
    nodes_needed,
)
from regraft.operations.moves import Reshape, Transpose

# Types as prototxts of 2013 write them.
_OLD_TYPES = {
    "CONVOLUTION": "Convolution", "INNER_PRODUCT": "InnerProduct", "POOLING": "Pooling", "RELU": "ReLU", "LRN": "LRN",
    "CONCAT": "Concat", "DROPOUT": "Dropout", "SOFTMAX": "Softmax", "ELTWISE": "Eltwise", "TANH": "TanH",
    "SIGMOID": "Sigmoid", "FLATTEN": "Flatten", "DECONVOLUTION": "Deconvolution", "POWER": "Power", "ABSVAL": "AbsVal",
    "SPLIT": "Split", "DATA": "Data",
}  # fmt: skip
_IGNORED = frozenset({"Data", "Accuracy", "Silence", "HDF5Data", "ImageData", "MemoryData"})
_STEPS = {"Sigmoid": "sigmoid", "TanH": "tanh", "AbsVal": "abs"}


class RefusedError(Exception):
    """A layer, or a setting of it, has no translation; the text says why, "" for its type as a whole."""


def caffe_network(checkpoint: Checkpoint) -> Network | None:
    """The network that the prototxt beside a `.caffemodel` describes; None where there is none."""
    path = checkpoint.path.with_suffix(".prototxt")
    if path not in checkpoint.files:
        return None
    net = parse_prototxt(bytes(whole_file(path).read()).decode("utf-8", "replace"), path)
    return _Walk(checkpoint).network(net)


def _first(settings: Settings, name: str, default: object) -> Any:
    return settings[name][0] if settings.get(name) else default


@dataclass
class _Layer:
    """One layer of the prototxt with its values.

    inputs  the values that it takes
    walk    what it is written into
    """

    name: str
    kind: str
    settings: Settings
    inputs: tuple[str, ...]
    walk: "_Walk"

    def parameters(self, group: str) -> Settings:
        """One group of its settings."""
        found: Settings = _first(self.settings, group, {})
        return found

    @property
    def x(self) -> str:
        """The only input."""
        if len(self.inputs) != 1:
            raise RefusedError(f"it takes {len(self.inputs)} inputs")
        return self.inputs[0]

    def array(self, leaf: str, *operations: Any) -> Array:
        """An array of the layer."""
        name = self.walk.arrays.get(self.name, {}).get(leaf)
        if name is None:
            raise RefusedError(f"the file holds no {leaf} of it")
        return Array((name,), operations)

    def has(self, leaf: str) -> bool:
        """Whether the file holds this array of the layer."""
        return leaf in self.walk.arrays.get(self.name, {})

    def biased(self, weight: Array) -> dict[str, Array]:
        """The weight, and the bias where there is one."""
        return {"weight": weight, **({"bias": self.array("bias")} if self.has("bias") else {})}

    def step(self, operator: str, *inputs: Input, **settings: object) -> str:
        """A step with one result."""
        return self.walk.add(self.name, operator, inputs, settings)

    def layer(self, operator: str, arrays: Mapping[str, Array], x: str | None = None, **settings: object) -> str:
        """A layer with one result."""
        return self.walk.add(self.name, operator, (x or self.x,), settings, arrays)


@dataclass
class _Walk:
    """Goes through the layers in their order; a layer may write into the blob that it reads."""

    checkpoint: Checkpoint
    nodes: list[Node] = field(default_factory=list)
    blobs: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, info in self.checkpoint.items():
            self.arrays.setdefault(info.layer, {})[info.leaf] = name

    def add(
        self, stem: str, operator: str, inputs: Sequence[Input], settings: Mapping[str, object],
        arrays: Mapping[str, Array] | None = None,
    ) -> str:  # fmt: skip
        """A node; its value."""
        output = f"{stem}:{len(self.nodes)}"
        is_layer = arrays is not None
        self.nodes.append(Node(operator, tuple(inputs), (output,), settings, stem if is_layer else "", arrays or {}))
        return output

    def network(self, net: Settings) -> Network:
        """The network of the whole prototxt."""
        entries = _entries(net)
        self.blobs = {entry.name: entry.name for entry in entries}
        untranslated: list[Untranslated] = []
        read: set[str] = set()
        for settings in _layers(net):
            kind = str(_first(settings, "type", ""))
            kind, name = _OLD_TYPES.get(kind, kind), str(_first(settings, "name", ""))
            bottoms, tops = ([str(blob) for blob in settings.get(side, ())] for side in ("bottom", "top"))
            if kind in _IGNORED or kind == "Input":
                continue
            try:
                inputs = tuple(self.blobs[blob] for blob in bottoms)
                values = self._translated(_Layer(name, kind, settings, inputs, self), len(tops))
                self.blobs.update(zip(tops, values, strict=True))
            except (RefusedError, KeyError) as error:
                reason = f"nothing gives its input {error}" if isinstance(error, KeyError) else str(error)
                untranslated.append(Untranslated(kind, name, reason))
                self.blobs.update({top: f"{name}:{top}" for top in tops})
            read |= set(bottoms) - set(tops)
        outputs = tuple(
            self.blobs[blob] for blob in sorted(self.blobs) if blob not in read and self.blobs[blob] != blob
        )
        if not entries:
            untranslated.append(
                Untranslated("Data", "", "the prototxt has no input with a shape (a deploy.prototxt has)")
            )
        nodes = tuple(self.nodes) if untranslated else nodes_needed(self.nodes, outputs)
        name = str(_first(net, "name", "network"))
        return Network(tuple(entries), nodes, outputs, name, notes=tuple(self.notes), untranslated=tuple(untranslated))

    def _translated(self, layer: _Layer, count: int) -> tuple[str, ...]:
        if layer.kind == "Split":
            return (layer.x,) * count
        if layer.kind not in _TRANSLATIONS:
            raise RefusedError("")
        if count != 1:
            raise RefusedError(f"it gives {count} outputs")
        return (_TRANSLATIONS[layer.kind](layer),)


def _layers(net: Settings) -> list[Settings]:
    """The layers that run outside training."""
    layers = [*net.get("layer", ()), *net.get("layers", ())]
    return [layer for layer in layers if all(_first(rule, "phase", "") != "TRAIN" for rule in layer.get("include", ()))]


def _entries(net: Settings) -> list[NetworkInput]:
    """The inputs with their shapes: fields of the net, or layers of the type Input."""
    names = [str(name) for name in net.get("input", ())]
    shapes = [[int(size) for size in shape.get("dim", ())] for shape in net.get("input_shape", ())]
    sizes = [int(size) for size in net.get("input_dim", ())]
    shapes += [sizes[start : start + 4] for start in range(0, len(sizes), 4)]
    for layer in net.get("layer", ()):
        if _first(layer, "type", "") == "Input":
            names.append(str(_first(layer, "top", "")))
            shape = _first(_first(layer, "input_param", {}), "shape", {})
            shapes.append([int(size) for size in shape.get("dim", ())])
    return [NetworkInput(name, _any_batch(shape)) for name, shape in zip(names, shapes, strict=False)]


def _any_batch(shape: Sequence[int]) -> Sizes:
    return (None, *shape[1:])


# --- layers -----------------------------------------------------------------------------------------------------------


def _convolution(layer: _Layer) -> str:
    facts = convolution_settings(layer.parameters("convolution_param"), 2)
    operator = "conv" if layer.kind == "Convolution" else "conv_transpose"
    settings: dict[str, Any] = {
        "stride": facts["strides"], "padding": facts["padding"], "dilation": facts["dilation"],
        "groups": facts["groups"],
    }  # fmt: skip
    return layer.layer(operator, layer.biased(layer.array("weight")), **settings)


def _inner_product(layer: _Layer) -> str:
    settings = layer.parameters("inner_product_param")
    moved = (Transpose((1, 0), ("in", "out")),) if _first(settings, "transpose", False) else ()
    flat = layer.step("flatten", layer.x, start=int(_first(settings, "axis", 1)))
    return layer.layer("linear", layer.biased(layer.array("weight", *moved)), flat)


def _batch_norm(layer: _Layer) -> str:
    eps = float(_first(layer.parameters("batch_norm_param"), "eps", 1e-5))
    momentum = 1 - float(_first(layer.parameters("batch_norm_param"), "moving_average_fraction", 0.999))
    arrays = {"running_mean": layer.array("mean"), "running_var": layer.array("variance")}
    return layer.layer("batch_norm", arrays, eps=eps, momentum=round(momentum, 10), axis=1)


def _scale(layer: _Layer) -> str:
    """The affine part of the batch-norm before it; else a factor and a shift for each channel."""
    settings = layer.parameters("scale_param")
    if int(_first(settings, "axis", 1)) != 1 or int(_first(settings, "num_axes", 1)) != 1:
        raise RefusedError("a scale along another axis than that of the channels")
    weight = layer.array("weight")
    count = layer.walk.checkpoint[weight.sources[0]].count
    before = layer.walk.nodes[-1] if layer.walk.nodes else None
    if before is not None and before.operator == "batch_norm" and before.outputs == (layer.x,) and layer.has("bias"):
        arrays = {"weight": weight, "bias": layer.array("bias"), **before.arrays}
        layer.walk.nodes[-1] = Node("batch_norm", before.inputs, before.outputs, before.settings, before.layer, arrays)
        return layer.x
    spread = Reshape((count, 1, 1))
    x = layer.step("mul", layer.x, layer.array("weight", spread))
    return layer.step("add", x, layer.array("bias", spread)) if layer.has("bias") else x


def _relu(layer: _Layer) -> str:
    slope = float(_first(layer.parameters("relu_param"), "negative_slope", 0))
    return layer.step("leaky_relu", layer.x, slope=slope) if slope else layer.step("relu", layer.x)


def _pooling(layer: _Layer) -> str:
    settings = layer.parameters("pooling_param")
    kind = str(_first(settings, "pool", "MAX"))
    operators = {
        "MAX": ("max_pool", "max"),
        "0": ("max_pool", "max"),
        "AVE": ("avg_pool", "mean"),
        "1": ("avg_pool", "mean"),
    }
    if kind not in operators:
        raise RefusedError(f"its pool {kind}")
    window, whole = operators[kind]
    if _first(settings, "global_pooling", False):
        return layer.step(whole, layer.x, axes=(2, 3), keepdim=True)
    kernel, stride, pad = (
        _sizes(settings, *words) for words in (("kernel_size", "kernel", 0), ("stride", "stride", 1), ("pad", "pad", 0))
    )
    if any(step > size for step, size in zip(stride, kernel, strict=True)):
        raise RefusedError("a stride larger than its window")
    rounds_down = str(_first(settings, "round_mode", "CEIL")) in ("FLOOR", "1")
    pads = tuple((size, size) for size in pad)
    return layer.step(window, layer.x, kernel=kernel, stride=stride, padding=pads, ceil=not rounds_down,
                      count_pad=window == "avg_pool")  # fmt: skip


def _sizes(settings: Settings, word: str, stem: str, default: int) -> tuple[int, int]:
    """(height, width): one number for both, or stem_h and stem_w."""
    both = int(_first(settings, word, default))
    return int(_first(settings, f"{stem}_h", both)), int(_first(settings, f"{stem}_w", both))


def _lrn(layer: _Layer) -> str:
    settings = layer.parameters("lrn_param")
    if str(_first(settings, "norm_region", "ACROSS_CHANNELS")) not in ("ACROSS_CHANNELS", "0"):
        raise RefusedError("a normalisation within each channel")
    values = {
        name: float(_first(settings, name, default)) for name, default in (("alpha", 1.0), ("beta", 0.75), ("k", 1.0))
    }
    return layer.step("local_response_norm", layer.x, size=int(_first(settings, "local_size", 5)), **values)


def _concat(layer: _Layer) -> str:
    settings = layer.parameters("concat_param")
    return layer.step("concat", *layer.inputs, axis=int(_first(settings, "axis", _first(settings, "concat_dim", 1))))


def _eltwise(layer: _Layer) -> str:
    settings = layer.parameters("eltwise_param")
    kind = str(_first(settings, "operation", "SUM"))
    operators = {"SUM": "add", "1": "add", "PROD": "mul", "0": "mul", "MAX": "maximum", "2": "maximum"}
    factors = [float(factor) for factor in settings.get("coeff", ())] or [1.0] * len(layer.inputs)
    scaled = [x if f == 1 else layer.step("mul", x, Literal(f)) for x, f in zip(layer.inputs, factors, strict=True)]
    x = scaled[0]
    for other in scaled[1:]:
        x = layer.step(operators[kind], x, other)
    return x


def _power(layer: _Layer) -> str:
    settings = layer.parameters("power_param")
    power, scale, shift = (float(_first(settings, n, d)) for n, d in (("power", 1), ("scale", 1), ("shift", 0)))
    x = layer.x
    x = x if scale == 1 else layer.step("mul", x, Literal(scale))
    x = x if shift == 0 else layer.step("add", x, Literal(shift))
    return x if power == 1 else layer.step("pow", x, Literal(power))


def _reshape(layer: _Layer) -> str:
    settings = layer.parameters("reshape_param")
    if "axis" in settings or "num_axes" in settings:
        raise RefusedError("a reshape of some axes")
    return layer.step("reshape", layer.x, shape=tuple(int(d) for d in _first(settings, "shape", {}).get("dim", ())))


def _prelu(layer: _Layer) -> str:
    return layer.layer("prelu", {"weight": layer.array("weight", *_vector(layer))}, axis=1)


def _vector(layer: _Layer) -> tuple[Reshape, ...]:
    """A single slope is stored without an axis."""
    info = layer.walk.checkpoint[layer.array("weight").sources[0]]
    return () if len(info.shape) == 1 else (Reshape((info.count,)),)


def _softmax(layer: _Layer) -> str:
    return layer.step("softmax", layer.x, axis=int(_first(layer.parameters("softmax_param"), "axis", 1)))


_TRANSLATIONS: Mapping[str, Callable[[_Layer], str]] = {
    **dict.fromkeys(("Convolution", "Deconvolution"), _convolution),
    "InnerProduct": _inner_product,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "ReLU": _relu,
    "PReLU": _prelu,
    "ELU": lambda layer: layer.step("elu", layer.x, alpha=float(_first(layer.parameters("elu_param"), "alpha", 1))),
    **{kind: lambda layer: layer.step(_STEPS[layer.kind], layer.x) for kind in _STEPS},
    "Pooling": _pooling,
    "LRN": _lrn,
    "Concat": _concat,
    "Eltwise": _eltwise,
    "Power": _power,
    "Reshape": _reshape,
    "Flatten": lambda layer: layer.step(
        "flatten", layer.x, start=int(_first(layer.parameters("flatten_param"), "axis", 1))
    ),
    "Dropout": lambda layer: layer.layer(
        "dropout", {}, p=float(_first(layer.parameters("dropout_param"), "dropout_ratio", 0.5))
    ),
    "Softmax": _softmax,
    "Permute": lambda layer: layer.step(
        "permute", layer.x, axes=tuple(int(axis) for axis in layer.parameters("permute_param").get("order", ()))
    ),
}
