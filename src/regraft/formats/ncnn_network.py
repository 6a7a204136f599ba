"""ncnn's `.param`: the layers of a network in order, the shapes of their arrays, and how they are connected.

Source: Tencent/ncnn, docs/developer-guide (param-and-model-file-structure, operation-param-weight-table), and the
methods `load_param` and `load_model` of each layer in src/layer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.errors import CheckpointError

MAGIC = "7767517"
_LARGEST_PARAM = 1 << 23  # bytes
_SAME = {-233: "same", -234: "same_lower"}
# The layer's key for a fused activation → the word; 2 and 3 have parameters of their own.
_FUSED = {1: "relu", 4: "sigmoid", 5: "mish", 6: "hard_swish"}
_ACTIVATIONS = {
    "ReLU": "relu", "Sigmoid": "sigmoid", "TanH": "tanh", "HardSwish": "hard_swish", "HardSigmoid": "hard_sigmoid",
    "Swish": "silu", "Mish": "mish", "Softmax": "softmax", "GELU": "gelu", "SELU": "selu",
}  # fmt: skip
# Layers that keep no arrays, by the words of other frameworks where these differ.
_PLAIN = {
    "Split": "Identity", "Noop": "Identity", "Dropout": "Dropout", "Flatten": "Flatten",
    "Reshape": "Reshape", "Permute": "Permute", "Squeeze": "Squeeze", "ExpandDims": "Unsqueeze", "Cast": "Cast",
    "Concat": "Concat", "Slice": "Slice", "Crop": "Crop", "Padding": "Padding", "Eltwise": "Eltwise",
    "BinaryOp": "BinaryOp", "UnaryOp": "UnaryOp", "Interp": "Interp", "Reduction": "Reduction", "Packing": "Identity",
    "ShuffleChannel": "ShuffleChannel", "PixelShuffle": "PixelShuffle", "Clip": "Clip", "MatMul": "MatMul",
    "SoftmaxLoss": "SoftmaxLoss", "PriorBox": "PriorBox", "DetectionOutput": "DetectionOutput", "LRN": "LRN",
    "Yolov3DetectionOutput": "Yolov3DetectionOutput", "Exp": "Exp", "Log": "Log", "Power": "Power",
    "AbsVal": "AbsVal", "ArgMax": "ArgMax", "Tile": "Tile", "CopyTo": "CopyTo", "GridSample": "GridSample",
    "Fold": "Fold", "Unfold": "Unfold", "CumulativeSum": "CumulativeSum", "GLU": "GLU", "SDPA": "SDPA",
    "RotaryEmbed": "RotaryEmbed", "Celu": "Celu", "Shrink": "Shrink", "Flip": "Flip", "ROIAlign": "ROIAlign",
}  # fmt: skip


@dataclass(frozen=True)
class NcnnArray:
    """One array of the `.bin`. `is_tagged`: four bytes before it say how it is stored, else it is float32."""

    layer: str
    layer_type: str
    leaf: str
    shape: tuple[int, ...]
    is_tagged: bool = False


@dataclass
class NcnnNetwork:
    """What a `.param` describes: the arrays in the order of the `.bin`, the settings and connections of all layers."""

    stored: list[NcnnArray] = field(default_factory=list)
    wiring: list[Requirement] = field(default_factory=list)


@dataclass(frozen=True)
class _Layer:
    """One line of the file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[int, str]

    def number(self, key: int, default: int = 0) -> int:
        """A whole number. Raises ValueError for other text."""
        text = self.settings.get(key, str(default))
        if len(text) > 11:
            raise ValueError(f"{self.name}: {text!r:.40} is no size")
        return int(text)

    def real(self, key: int, default: float) -> float:
        """A number with a fraction."""
        return float(self.settings.get(key, default))

    def reals(self, key: int) -> list[float]:
        """A list: its length, then its items, with commas between them; its key is stored as -23300 - key."""
        return [float(text) for text in self.settings.get(-23300 - key, "").split(",")[1:]]

    def pair(self, width: int, height: int, default: int = 0) -> list[int]:
        """[height, width] of two settings, the second of which is the first where it is absent."""
        wide = self.number(width, default)
        return [self.number(height, wide), wide]


def read_ncnn_network(path: Path) -> NcnnNetwork:
    """The layers of a `.param`. Raises CheckpointError that names the file when it is damaged or not read."""
    try:
        if path.stat().st_size > _LARGEST_PARAM:
            raise ValueError("it is longer than 8 MiB")
        return _network(path.read_text("utf-8", errors="replace").splitlines())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, IndexError, ZeroDivisionError, OverflowError) as error:
        raise CheckpointError(f"{path}: the network cannot be read ({error}).") from error


def _network(lines: list[str]) -> NcnnNetwork:
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC}")
    network = NcnnNetwork()
    makers: dict[str, str] = {}  # blob → the layer that makes it; "" for the network's input
    for layer in _layers(lines[2:]):
        if layer.kind == "Input":
            continue
        network.stored += _stored(layer)
        inputs = [makers.get(blob, "") for blob in layer.inputs]
        network.wiring += [
            Requirement(layer.name, "inputs", inputs),
            Requirement(layer.name, "operation", _operation(layer)),
            *requirements_for(layer.name, _facts(layer)),
        ]
        makers.update(dict.fromkeys(layer.outputs, layer.name))
    return network


def _layers(lines: list[str]) -> Iterator[_Layer]:
    for line in lines:
        words = line.split()
        if not words:
            continue
        kind, name, first = words[0], words[1], 4
        inputs, outputs = int(words[2]), int(words[3])
        blobs = words[first : first + inputs + outputs]
        settings = dict(word.partition("=")[::2] for word in words[first + inputs + outputs :])
        numbered = {int(key): value for key, value in settings.items()}
        yield _Layer(kind, name, tuple(blobs[:inputs]), tuple(blobs[inputs:]), numbered)


# --- arrays -----------------------------------------------------------------------------------------------------------


def _stored(layer: _Layer) -> list[NcnnArray]:
    maker = _ARRAYS.get(layer.kind)
    if maker is not None:
        return [NcnnArray(layer.name, _TYPES.get(layer.kind, layer.kind), *parts) for parts in maker(layer)]
    if layer.kind not in _PLAIN and layer.kind not in _ACTIVATIONS and layer.kind not in ("Pooling", "ELU"):
        raise ValueError(f"{layer.name}: {layer.kind:.40} is not read")
    return []


_Parts = Iterator[tuple[str, tuple[int, ...], bool]]  # leaf, shape, whether it is tagged


def _kernel(layer: _Layer, axes: int, *, is_transposed: bool = False) -> _Parts:
    """A convolution of so many spatial axes: the kernel, then the bias."""
    if layer.number(8):
        raise ValueError(f"{layer.name}: int8 scales are not read")
    if layer.number(19) and not is_transposed:
        raise ValueError(f"{layer.name}: kernels that the network computes are not read")
    outputs, groups = layer.number(0), layer.number(7, 1)
    sides = {1: [layer.number(1)], 2: layer.pair(1, 11), 3: [layer.number(21, layer.number(1)), *layer.pair(1, 11)]}
    size = layer.number(6)
    for side in sides[axes]:
        size //= side
    # Transposed kernels are (out, in) as well, within each group.
    yield "weight", (outputs, size // outputs, *sides[axes]), True
    if is_transposed and groups > 1:
        raise ValueError(f"{layer.name}: transposed convolutions of groups are not read")
    if layer.number(5):
        yield "bias", (outputs,), False


def _dense(layer: _Layer) -> _Parts:
    if layer.number(8):
        raise ValueError(f"{layer.name}: int8 scales are not read")
    outputs = layer.number(0)
    yield "weight", (outputs, layer.number(2) // outputs), True
    if layer.number(1):
        yield "bias", (outputs,), False


def _embedding(layer: _Layer) -> _Parts:
    size = layer.number(0)
    yield "weight", (layer.number(3) // size, size), True
    if layer.number(2):
        yield "bias", (size,), False


def _batch_norm(layer: _Layer) -> _Parts:
    for leaf in ("weight", "running_mean", "running_var", "bias"):
        yield leaf, (layer.number(0),), False


def _scale(layer: _Layer) -> _Parts:
    if layer.number(0) == -233:
        return
    yield "weight", (layer.number(0),), False
    if layer.number(1):
        yield "bias", (layer.number(0),), False


def _norm(size: int, affine: int) -> Callable[[_Layer], _Parts]:
    """Keys of the number of channels and of whether there are scale and shift."""

    def parts(layer: _Layer) -> _Parts:
        if layer.number(affine, 1):
            yield "weight", (layer.number(size),), False
            yield "bias", (layer.number(size),), False

    return parts


def _cell(layer: _Layer) -> _Parts:
    """Gates i f o g, one after the other; both directions where there are two."""
    hidden, directions = layer.number(0), 2 if layer.number(2) == 2 else 1
    if layer.number(8) or layer.number(3, hidden) != hidden:
        raise ValueError(f"{layer.name}: int8 scales and projections are not read")
    inputs = layer.number(1) // (4 * hidden * directions)
    yield "weight_ih", (directions, 4 * hidden, inputs), True
    yield "bias", (directions, 4 * hidden), True
    yield "weight_hh", (directions, 4 * hidden, hidden), True


def _attention(layer: _Layer) -> _Parts:
    inner = layer.number(0)
    width = layer.number(2) // inner
    widths = {"q": width, "k": layer.number(3, inner), "v": layer.number(4, inner)}
    for part, inputs in widths.items():
        yield f"{part}_proj.weight", (inner, inputs), True
        yield f"{part}_proj.bias", (inner,), False
    yield "out_proj.weight", (width, inner), True
    yield "out_proj.bias", (width,), False


def _constant(layer: _Layer) -> _Parts:
    sizes = [layer.number(key) for key in (2, 11, 1, 0)]  # c, d, h, w; 0 for an axis that there is not
    yield "data", tuple(size for size in sizes if size), not layer.number(21, 1)


_ARRAYS: dict[str, Callable[[_Layer], _Parts]] = {
    "Convolution": lambda layer: _kernel(layer, 2), "ConvolutionDepthWise": lambda layer: _kernel(layer, 2),
    "Convolution1D": lambda layer: _kernel(layer, 1), "ConvolutionDepthWise1D": lambda layer: _kernel(layer, 1),
    "Convolution3D": lambda layer: _kernel(layer, 3), "ConvolutionDepthWise3D": lambda layer: _kernel(layer, 3),
    "Deconvolution": lambda layer: _kernel(layer, 2, is_transposed=True),
    "DeconvolutionDepthWise": lambda layer: _kernel(layer, 2, is_transposed=True),
    "InnerProduct": _dense, "Embed": _embedding, "BatchNorm": _batch_norm, "Scale": _scale, "LSTM": _cell,
    "InstanceNorm": _norm(0, 2), "LayerNorm": _norm(0, 2), "GroupNorm": _norm(1, 3), "RMSNorm": lambda layer: iter(
        [("weight", (layer.number(0),), False)] if layer.number(2, 1) else []
    ),
    "PReLU": lambda layer: iter([("weight", (layer.number(0),), False)]),
    "Bias": lambda layer: iter([("bias", (layer.number(0),), False)]),
    "MultiHeadAttention": _attention, "MemoryData": _constant,
}  # fmt: skip
# The words that tell a layer's kind to the plan (regraft.plans.signatures).
_TYPES = {
    "Convolution": "Conv2D", "ConvolutionDepthWise": "Conv2D", "Convolution1D": "Conv1D", "Convolution3D": "Conv3D",
    "ConvolutionDepthWise1D": "Conv1D", "ConvolutionDepthWise3D": "Conv3D", "Deconvolution": "Deconvolution",
    "DeconvolutionDepthWise": "Deconvolution", "InnerProduct": "InnerProduct", "Embed": "Embedding",
    "InstanceNorm": "InstanceNormalization", "LayerNorm": "LayerNormalization", "GroupNorm": "GroupNormalization",
    "RMSNorm": "RMSNormalization", "MemoryData": "Constant",
}  # fmt: skip


# --- settings and connections ---------------------------------------------------------------------------------------


def _operation(layer: _Layer) -> str:
    """The word for what the layer does; joins by the word that the plan knows."""
    if layer.kind in ("BinaryOp", "Eltwise"):
        adds, multiplies = (0, 2) if layer.kind == "BinaryOp" else (1, 0)
        kind = layer.number(0, 0)
        return "Add" if kind == adds else "Mul" if kind == multiplies else layer.kind
    if layer.kind in _ACTIVATIONS or layer.kind == "ELU":
        return "Activation"
    if layer.kind == "Pooling" and layer.number(4):
        return "GlobalAveragePooling2D" if layer.number(0) == 1 else "GlobalMaxPooling2D"
    return _PLAIN.get(layer.kind) or _TYPES.get(layer.kind, layer.kind)


def _facts(layer: _Layer) -> Facts:
    if "Convolution" in layer.kind or layer.kind.startswith("Deconvolution"):
        return _facts_of_convolution(layer)
    if layer.kind == "Pooling" and not layer.number(4):
        return _facts_of_pooling(layer)
    if layer.kind in ("BatchNorm", "InstanceNorm", "LayerNorm", "RMSNorm"):
        default = {"BatchNorm": 0.0}.get(layer.kind, 1e-3)
        return {"eps": layer.real(1, default)}
    if layer.kind == "GroupNorm":
        return {"eps": layer.real(2, 1e-3), "groups": layer.number(0)}
    if layer.kind == "InnerProduct":
        return {"use_bias": bool(layer.number(1)), "activation": _fused(layer)}
    if layer.kind == "LSTM":
        words = {0: "forward", 1: "reverse", 2: "bidirectional"}
        return {"gate_order": "ifoc", "direction": words[layer.number(2)], "go_backwards": layer.number(2) == 1}
    if layer.kind in _ACTIVATIONS or layer.kind == "ELU":
        return {"activation": _activation(layer)}
    return {}


def _activation(layer: _Layer) -> str:
    slope = layer.real(0, 0.0)
    if layer.kind == "ReLU" and slope:
        return f"leaky_relu({slope:g})"
    return f"elu({layer.real(0, 0.1):g})" if layer.kind == "ELU" else _ACTIVATIONS[layer.kind]


def _fused(layer: _Layer) -> str:
    """The activation that is a part of the layer itself."""
    kind, numbers = layer.number(9), layer.reals(10)
    if kind == 2:
        return f"leaky_relu({numbers[0]:g})"
    if kind == 3:
        return "relu6" if numbers == [0.0, 6.0] else f"clip{tuple(numbers)}"
    return _FUSED.get(kind, f"activation {kind}") if kind else "linear"


def _facts_of_convolution(layer: _Layer) -> Facts:
    axes = 1 if layer.kind.endswith("1D") else 3 if layer.kind.endswith("3D") else 2
    facts: Facts = {"use_bias": bool(layer.number(5)), "groups": layer.number(7, 1), "activation": _fused(layer)}
    left, top = layer.number(4), layer.number(14, layer.number(4))
    right, bottom = layer.number(15, left), layer.number(16, top)
    if axes == 2:
        facts |= {"strides": layer.pair(3, 13, 1), "dilation": layer.pair(2, 12, 1)}
        facts["padding"] = _SAME.get(left) or [[top, bottom], [left, right]]
    elif axes == 1:
        facts |= {"strides": [layer.number(3, 1)], "dilation": [layer.number(2, 1)]}
        facts["padding"] = _SAME.get(left) or [[left, right]]
    if layer.kind.startswith("Deconvolution"):
        return facts | {"output_padding": [layer.number(19), layer.number(18)]}
    if left >= 0 and layer.real(18, 0.0):
        facts["padding"] = f"{layer.real(18, 0.0):g} of {facts['padding']}"
    return facts


def _facts_of_pooling(layer: _Layer) -> Facts:
    left, top = layer.number(3), layer.number(13, layer.number(3))
    right, bottom = layer.number(14, left), layer.number(15, top)
    mode, is_average = layer.number(5), layer.number(0) == 1
    if layer.number(7):
        return {"pool": "adaptive"}
    facts: Facts = {"pool": "average" if is_average else "max", "pool_size": layer.pair(1, 11)}
    facts |= {"strides": layer.pair(2, 12, 1), "padding": [[top, bottom], [left, right]], "ceil_mode": mode == 0}
    if mode in (2, 3):
        facts["padding"] = "same" if mode == 2 else "same_lower"
    return facts | ({"count_include_pad": bool(layer.number(6))} if is_average else {})
