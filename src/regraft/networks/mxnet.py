"""The network of an MXNet model, of the `-symbol.json` beside its arrays. Source: apache/mxnet 1.9, src/operator."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.arrays import Checkpoint
from regraft.containers.json_text import json_file
from regraft.formats.mxnet_symbol import SymbolNode, read_symbol
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

_BINARY = {
    "elemwise_add": "add", "_Plus": "add", "_plus": "add", "broadcast_add": "add", "broadcast_plus": "add",
    "elemwise_sub": "sub", "_minus": "sub", "_Minus": "sub", "broadcast_sub": "sub", "broadcast_minus": "sub",
    "elemwise_mul": "mul", "_mul": "mul", "_Mul": "mul", "broadcast_mul": "mul", "elemwise_div": "div", "_div": "div",
    "broadcast_div": "div", "_maximum": "maximum", "broadcast_maximum": "maximum", "broadcast_minimum": "minimum",
}  # fmt: skip
_SCALAR = {
    "_plus_scalar": "add", "_PlusScalar": "add", "_minus_scalar": "sub", "_MinusScalar": "sub", "_mul_scalar": "mul",
    "_MulScalar": "mul", "_div_scalar": "div", "_DivScalar": "div", "_power_scalar": "pow",
    "_maximum_scalar": "maximum",
    "_minimum_scalar": "minimum",
}  # fmt: skip
_UNARY = {
    "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "exp": "exp", "log": "log", "sqrt": "sqrt",
    "square": "square",
    "abs": "abs", "negative": "neg", "softsign": "softsign", "identity": "identity", "_copy": "identity",
    "BlockGrad": "identity", "make_loss": "identity",
}  # fmt: skip
_ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softrelu": "softplus", "softsign": "softsign"}
_SOFTMAX = frozenset({"SoftmaxOutput", "SoftmaxActivation", "Softmax"})
_LABELS = re.compile(r".*label$")


class RefusedError(Exception):
    """An operator, or a setting of it, has no translation; the text says why, "" for the operator as a whole."""


def mxnet_network(checkpoint: Checkpoint) -> Network | None:
    """The network of the symbol beside a `.params` file; None where there is none."""
    paths = [path for path in checkpoint.files if path.name.endswith("-symbol.json")]
    if not paths:
        return None
    heads = [int(head[0]) for head in json_file(paths[0]).get("heads", ())]
    return _Walk(checkpoint, read_symbol(paths[0]).nodes).network(paths[0].name.removesuffix("-symbol.json"), heads)


@dataclass
class _Walk:
    """Goes through the nodes in their order."""

    checkpoint: Checkpoint
    symbols: Sequence[SymbolNode]
    nodes: list[Node] = field(default_factory=list)
    values: dict[int, str] = field(default_factory=dict)

    def network(self, name: str, heads: Sequence[int]) -> Network:
        """The whole network. Labels of losses are left out."""
        untranslated: list[Untranslated] = []
        entries: list[NetworkInput] = []
        for number, node in enumerate(self.symbols):
            if node.operator == "null":
                self.values[number] = node.name
                if node.name not in self.checkpoint and not _LABELS.match(node.name):
                    entries.append(NetworkInput(node.name, self._shape_of(number)))
                continue
            try:
                self.values[number] = self._translated(_Call(node, self))
            except RefusedError as error:
                untranslated.append(Untranslated(node.operator, node.name, str(error)))
                self.values[number] = f"{node.name}:"
        outputs = tuple(self.values[head] for head in heads or [len(self.symbols) - 1])
        nodes = tuple(self.nodes) if untranslated else nodes_needed(self.nodes, outputs)
        used = {value for node in nodes for value in node.values}
        kept = tuple(entry for entry in entries if entry.name in used)
        return Network(kept, nodes, outputs, name, untranslated=tuple(untranslated))

    def _shape_of(self, number: int) -> Sizes:
        """As recorded, else by the first layer that takes it: images of that many channels, or vectors."""
        for node in self.symbols:
            if number in node.inputs[:1] and node.operator == "FullyConnected":
                return (None, self._weight(node)[1])
        first = next((node for node in self.symbols if node.operator == "Convolution"), None)
        if first is None:
            return (None, None)
        weight = self._weight(first)
        return (None, weight[1] * int(first.real("num_group", 1)), *((None,) * (len(weight) - 2)))

    def _weight(self, node: SymbolNode) -> tuple[int, ...]:
        return self.checkpoint[self.symbols[node.inputs[1]].name].shape

    def _translated(self, call: "_Call") -> str:
        kind = call.node.operator
        if kind in _BINARY:
            return call.step(_BINARY[kind], call.input(0), call.input(1))
        if kind in _SCALAR:
            return call.step(_SCALAR[kind], call.x, Literal(call.node.real("scalar", 0.0)))
        if kind in _UNARY:
            return call.step(_UNARY[kind], call.x)
        if kind in _SOFTMAX:
            return call.step("softmax", call.x, axis=1)
        if kind.startswith("BatchNorm"):
            return _batch_norm(call)
        if kind not in _TRANSLATIONS:
            raise RefusedError("")
        return _TRANSLATIONS[kind](call)


@dataclass(frozen=True)
class _Call:
    """One node, for its translation."""

    node: SymbolNode
    walk: _Walk

    def input(self, place: int) -> Input:
        """A value, or an array of the file."""
        number = self.node.inputs[place]
        source = self.walk.symbols[number]
        is_array = source.operator == "null" and source.name in self.walk.checkpoint
        return Array((source.name,)) if is_array else self.walk.values[number]

    @property
    def x(self) -> Input:
        """The first input."""
        return self.input(0)

    def array(self, place: int, *operations: Any) -> Array:
        """An input that is an array of the file."""
        given = self.input(place) if place < len(self.node.inputs) else None
        if not isinstance(given, Array):
            raise RefusedError(f"its input {place} is no array of the file")
        return Array(given.sources, operations)

    def step(self, operator: str, *inputs: Input, **settings: object) -> str:
        """A step with one result."""
        return self._add(Node(operator, inputs, (self._output(),), settings))

    def layer(self, operator: str, arrays: Mapping[str, Array], x: Input = None, **settings: object) -> str:
        """A layer with one result."""
        return self._add(Node(operator, (x or self.x,), (self._output(),), settings, self.node.name, arrays))

    def _output(self) -> str:
        return f"{self.node.name}:{len(self.walk.nodes)}"

    def _add(self, node: Node) -> str:
        self.walk.nodes.append(node)
        return node.outputs[0]

    def axes(self, setting: str) -> tuple[int, ...]:
        """A tuple of axes, which may count from the end."""
        return tuple(int(number) for number in re.findall(r"-?\d+", self.node.settings.get(setting, "")))

    def biased(self, *, default: bool) -> dict[str, Array]:
        """Weight, and bias unless the node has none."""
        has_bias = not self.node.flag("no_bias", default=not default)
        return {"weight": self.array(1), **({"bias": self.array(2)} if has_bias else {})}


def _convolution(call: _Call) -> str:
    node = call.node
    if node.operator == "Deconvolution" and call.axes("target_shape"):
        raise RefusedError("its target_shape")
    pads = tuple((pad, pad) for pad in node.sizes("pad", 0))
    settings: dict[str, Any] = {
        "stride": tuple(node.sizes("stride", 1)), "dilation": tuple(node.sizes("dilate", 1)), "padding": pads,
        "groups": int(node.real("num_group", 1)),
    }  # fmt: skip
    if node.operator == "Convolution":
        return call.layer("conv", call.biased(default=True), **settings)
    return call.layer(
        "conv_transpose", call.biased(default=False), output_padding=tuple(node.sizes("adj", 0)), **settings
    )


def _fully_connected(call: _Call) -> str:
    x = call.step("flatten", call.x, start=1) if call.node.flag("flatten", default=True) else call.x
    return call.layer("linear", call.biased(default=True), x)


def _batch_norm(call: _Call) -> str:
    arrays = {
        "weight": call.array(1), "bias": call.array(2), "running_mean": call.array(3), "running_var": call.array(4),
    }  # fmt: skip
    momentum = round(1 - call.node.real("momentum", 0.9), 10)
    axis = int(call.node.real("axis", 1))
    return call.layer("batch_norm", arrays, eps=call.node.real("eps", 1e-3), momentum=momentum, axis=axis)


def _activation(call: _Call) -> str:
    word = call.node.settings.get("act_type", "")
    if word not in _ACTIVATIONS:
        raise RefusedError(f"its act_type {word!r}")
    return call.step(_ACTIVATIONS[word], call.x)


def _leaky_relu(call: _Call) -> str:
    word = call.node.settings.get("act_type", "leaky")
    slope = call.node.real("slope", 0.25)
    if word == "prelu":
        return call.layer("prelu", {"weight": call.array(1)}, axis=1)
    if word == "leaky":
        return call.step("leaky_relu", call.x, slope=slope)
    if word == "elu":
        return call.step("elu", call.x, alpha=slope)
    if word in ("selu", "gelu"):
        return call.step(word, call.x)
    raise RefusedError(f"its act_type {word!r}")


def _pooling(call: _Call) -> str:
    node = call.node
    kind = node.settings.get("pool_type", "max")
    if kind not in ("max", "avg"):
        raise RefusedError(f"its pool_type {kind!r}")
    if node.flag("global_pool", default=False):
        rank = len(node.sizes("kernel", 1)) if "kernel" in node.settings else 2
        return call.step({"max": "max", "avg": "mean"}[kind], call.x, axes=tuple(range(2, 2 + rank)), keepdim=True)
    pads = tuple((pad, pad) for pad in node.sizes("pad", 0))
    convention = node.settings.get("pooling_convention", "valid")
    if convention not in ("valid", "full"):
        raise RefusedError(f"its pooling_convention {convention!r}")
    settings = {"kernel": tuple(node.sizes("kernel", 1)), "stride": tuple(node.sizes("stride", 1)), "padding": pads}
    counted = kind == "avg" and node.flag("count_include_pad", default=True)
    return call.step(f"{kind}_pool", call.x, ceil=convention == "full", count_pad=counted, **settings)


def _pad(call: _Call) -> str:
    widths = [int(number) for number in re.findall(r"\d+", call.node.settings.get("pad_width", ""))]
    mode = call.node.settings.get("mode", "constant")
    pads = tuple(zip(widths[::2], widths[1::2], strict=False))
    return call.step("pad", call.x, pads=pads, mode=mode, value=call.node.real("constant_value", 0.0))


def _reshape(call: _Call) -> str:
    shape = call.axes("shape")
    if not shape or min(shape) < -1 or call.node.flag("reverse", default=False):
        raise RefusedError(f"its shape {call.node.settings.get('shape', '')}")
    return call.step("reshape", call.x, shape=shape)


def _mean(call: _Call) -> str:
    keepdim = call.node.flag("keepdims", default=False)
    return call.step(call.node.operator, call.x, axes=call.axes("axis") or None, keepdim=keepdim)


def _concat(call: _Call) -> str:
    values = [call.input(place) for place in range(len(call.node.inputs))]
    return call.step("concat", *values, axis=int(call.node.real("dim", 1)))


def _sum_of_many(call: _Call) -> str:
    x = call.x
    for place in range(1, len(call.node.inputs)):
        x = call.step("add", x, call.input(place))
    return call.step("identity", x) if x is call.x else str(x)


def _local_response_norm(call: _Call) -> str:
    node = call.node
    return call.step("local_response_norm", call.x, size=int(node.real("nsize", 5)), alpha=node.real("alpha", 1e-4),
                     beta=node.real("beta", 0.75), k=node.real("knorm", 2.0))  # fmt: skip


def _upsampling(call: _Call) -> str:
    if call.node.settings.get("sample_type") != "nearest" or len(call.node.inputs) > 1:
        raise RefusedError("other than one map, by the nearest")
    scale = int(call.node.real("scale", 1))
    return call.step("resize", call.x, scale=(scale, scale), mode="nearest", coordinates="asymmetric")


def _layer_norm(call: _Call) -> str:
    arrays = {"weight": call.array(1), "bias": call.array(2)}
    axis = int(call.node.real("axis", -1))
    return call.layer("layer_norm", arrays, eps=call.node.real("eps", 1e-5), axes=(axis,))


def _embedding(call: _Call) -> str:
    return call.layer("embedding", {"weight": call.array(1)})


_TRANSLATIONS: Mapping[str, Callable[[_Call], str]] = {
    **dict.fromkeys(("Convolution", "Deconvolution"), _convolution),
    "FullyConnected": _fully_connected,
    "Activation": _activation,
    "LeakyReLU": _leaky_relu,
    "Pooling": _pooling,
    **dict.fromkeys(("Pad", "pad"), _pad),
    **dict.fromkeys(("Reshape", "reshape"), _reshape),
    **dict.fromkeys(("mean", "sum"), _mean),
    **dict.fromkeys(("Concat", "concat"), _concat),
    **dict.fromkeys(("add_n", "ElementWiseSum"), _sum_of_many),
    "LRN": _local_response_norm,
    "UpSampling": _upsampling,
    "LayerNorm": _layer_norm,
    "Embedding": _embedding,
    **dict.fromkeys(("Flatten", "flatten"), lambda call: call.step("flatten", call.x, start=1)),
    "Dropout": lambda call: call.layer("dropout", {}, p=call.node.real("p", 0.5)),
    "softmax": lambda call: call.step("softmax", call.x, axis=int(call.node.real("axis", -1))),
    "transpose": lambda call: call.step("permute", call.x, axes=call.axes("axes")),
    "clip": lambda call: call.step("clamp", call.x, min=call.node.real("a_min", 0.0), max=call.node.real("a_max", 0.0)),
    "expand_dims": lambda call: call.step("unsqueeze", call.x, axes=call.axes("axis")),
}
