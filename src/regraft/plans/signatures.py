"""What a layer is, in one form for all frameworks: its kind and its shape in torch's axis order."""

from collections.abc import Hashable, Mapping
from math import prod

from regraft.errors import PlanError
from regraft.operations.operation import Shape
from regraft.operations.running import shape_after
from regraft.plans.layers import Kind, Layer
from regraft.plans.layouts import OURS, axis_operations, stored_axes
from regraft.plans.recurrent_layouts import Facts

# The frameworks' words for a layer. What is not here is judged by its arrays' names.
_KINDS: dict[str, Kind] = {
    "Dense": "dense", "Gemm": "dense", "MatMul": "dense", "InnerProduct": "dense", "EinsumDense": "dense",
    "Conv1D": "conv", "Conv2D": "conv", "Conv3D": "conv", "Conv": "conv", "Convolution": "conv",
    "DepthwiseConv1D": "depthwise", "DepthwiseConv2D": "depthwise", "ConvolutionDepthwise": "depthwise",
    "Conv1DTranspose": "conv_transpose", "Conv2DTranspose": "conv_transpose", "Conv3DTranspose": "conv_transpose",
    "ConvTranspose": "conv_transpose", "Deconvolution": "conv_transpose",
    "BatchNormalization": "batch_norm", "BatchNorm": "batch_norm",
    "LayerNormalization": "norm", "GroupNormalization": "norm", "RMSNormalization": "norm",
    "InstanceNormalization": "norm", "Embedding": "embedding", "Gather": "embedding", "PReLU": "prelu",
    "PRelu": "prelu", "LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn", "RNN": "rnn",
    "MultiHeadAttention": "attention",
}  # fmt: skip
_WEIGHTS = ("kernel", "weight", "weights", "depthwise_kernel", "depthwise_weights", "pointwise_kernel", "W", "w", "0")
_VECTORS = ("gamma", "scale", "beta", "weight", "bias", "mean", "moving_mean", "running_mean", "0", "1")


def signature_of(layer: Layer) -> Hashable | None:
    """Of a layer of ours; None for one whose kind is not known.

    >>> from regraft.plans.layers import TargetArray
    >>> signature_of(Layer("fc", "dense", {"weight": TargetArray((5, 3), "float32")}))
    ('dense', (5, 3))
    """
    shapes = {leaf: array.shape for leaf, array in layer.arrays.items()}
    if layer.kind in OURS:
        return _of_weight(layer.kind, shapes["weight"]) if "weight" in shapes else None
    if layer.kind in ("batch_norm", "norm", "prelu"):
        vector = next(iter(shapes.values()), None)
        return None if vector is None else (layer.kind, prod(vector))
    if layer.kind == "embedding":
        return ("embedding", shapes["weight"])
    if layer.kind in ("lstm", "gru", "rnn"):
        first = {leaf.removesuffix("_l0"): shape for leaf, shape in shapes.items()}
        return (layer.kind, first["weight_ih"][1], first["weight_hh"][1])
    return ("attention", layer.settings.get("embed_dim")) if layer.kind == "attention" else None


def kind_of_signature(signature: Hashable) -> object:
    """The kind of layer that a signature tells."""
    return signature[0] if isinstance(signature, tuple) else None


def source_signature(leaves: Mapping[str, Shape], layer_type: str, layout: str, facts: Facts) -> Hashable | None:
    """Of a layer of theirs, from its arrays' names and stored shapes; None when kind or axis order is not certain.

    leaves      name in the layer → stored shape
    layer_type  the framework's word, "" when the file is silent
    """
    kind = _KINDS.get(layer_type) or _kind_by_leaves(leaves)
    if kind in OURS:
        weight = next((leaves[leaf] for leaf in _WEIGHTS if leaf in leaves), None)
        return None if weight is None else _of_stored(kind, weight, layout, facts)
    if kind in ("batch_norm", "norm"):
        vector = next((leaves[leaf] for leaf in _VECTORS if leaf in leaves), None)
        return None if vector is None else (kind, prod(vector))
    if kind == "prelu":
        return (kind, prod(next(iter(leaves.values()))))
    if kind == "embedding":
        return (kind, next(iter(leaves.values())))
    if kind in ("lstm", "gru", "rnn") and layout == "tensorflow" and "recurrent_kernel" in leaves:
        return (kind, leaves["kernel"][0], leaves["recurrent_kernel"][0])
    if kind in ("lstm", "gru", "rnn") and layout == "onnx" and {"W", "R"} <= leaves.keys():
        return (kind, leaves["W"][2], leaves["R"][2])
    if kind in ("lstm", "gru", "rnn") and {"weight_ih_l0", "weight_hh_l0"} <= leaves.keys():
        return (kind, leaves["weight_ih_l0"][1], leaves["weight_hh_l0"][1])
    if kind == "attention" and "query/kernel" in leaves:
        return (kind, leaves["query/kernel"][0])
    return None


def _kind_by_leaves(leaves: Mapping[str, Shape]) -> Kind | None:
    if leaves.keys() & {"moving_mean", "running_mean"} or {"mean", "var"} <= leaves.keys():
        return "batch_norm"
    if "depthwise_kernel" in leaves or "depthwise_weights" in leaves:
        return "depthwise"
    if "recurrent_kernel" in leaves:
        ratio = leaves["recurrent_kernel"][-1] // max(leaves["recurrent_kernel"][0], 1)
        kinds: dict[int, Kind] = {4: "lstm", 3: "gru", 1: "rnn"}
        return kinds.get(ratio)
    if leaves.keys() & {"embeddings", "embedding"}:
        return "embedding"
    if leaves.keys() & {"alpha", "alphas"}:
        return "prelu"
    weight = next((leaves[leaf] for leaf in _WEIGHTS if leaf in leaves), ())
    if len(weight) >= 2:
        return "dense" if len(weight) == 2 else "conv"
    is_norm = leaves.keys() <= {"gamma", "beta", "scale", "weight", "bias"} and len({*leaves.values()}) == 1
    return "norm" if is_norm and (len(leaves) == 2 or leaves.keys() & {"scale", "weight"}) else None


def _of_stored(kind: Kind, shape: Shape, layout: str, facts: Facts) -> Hashable | None:
    """The signature of a weight as stored; None when nothing tells its axes."""
    if kind == "dense" and len(shape) > 2:
        kind = "conv"
    try:
        if kind == "depthwise" and layout.startswith("tensorflow") and shape[-2] != 1:
            return _of_weight(kind, (shape[-2] * shape[-1], 1, *shape[:-2]))
        axes = stored_axes(layout, "conv" if kind == "depthwise" else kind, facts)
        return _of_weight(kind, shape_after(axis_operations(axes, OURS[kind], shape), [shape]))
    except PlanError:
        return None


def _of_weight(kind: Kind, shape: Shape) -> Hashable:
    """A pointwise convolution is a dense layer; one input channel for each group is depthwise."""
    if kind in ("dense", "conv") and set(shape[2:]) <= {1} and len(shape) > 1 and shape[1] != 1:
        return ("dense", shape[:2])
    if kind == "conv" and shape[1] == 1:
        kind = "depthwise"
    return (kind, shape)
