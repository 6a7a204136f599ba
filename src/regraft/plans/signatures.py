"""What a layer is, in one form for all frameworks: its kind and its shape in torch's axis order."""

from collections.abc import Hashable, Mapping, Sequence
from math import prod

from regraft.errors import PlanError
from regraft.operations.operation import Shape
from regraft.operations.running import shape_after
from regraft.plans.layers import KERNELS, Kind, Layer
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
_WEIGHTS = (
    *KERNELS, "kernel", "weights", "depthwise_kernel", "depthwise_weights", "pointwise_kernel", "W", "w", "0",
)  # fmt: skip
_RECURRENT = ("lstm", "gru", "rnn")
_BY_LEAF: tuple[tuple[frozenset[str], Kind], ...] = (
    (frozenset({"moving_mean", "running_mean", "var"}), "batch_norm"),
    (frozenset({"depthwise_kernel", "depthwise_weights"}), "depthwise"),
    (frozenset({"embeddings", "embedding"}), "embedding"),
    (frozenset({"alpha", "alphas"}), "prelu"),
)
_BY_GATES: dict[int, Kind] = {4: "lstm", 3: "gru", 1: "rnn"}
_VECTORS = ("gamma", "scale", "beta", "weight", "bias", "mean", "moving_mean", "running_mean", "0", "1")


def signature_of(layer: Layer) -> Hashable | None:
    """Of a layer of ours; None for one whose kind is not known.

    >>> from regraft.plans.layers import TargetArray
    >>> signature_of(Layer("fc", "dense", {"weight": TargetArray((5, 3), "float32")}))
    ('dense', (5, 3))
    """
    shapes = {leaf.removesuffix("_l0"): array.shape for leaf, array in layer.arrays.items()}
    if layer.kind in OURS:
        return None if layer.kernel is None else _of_weight(layer.kind, layer.kernel.shape)
    if layer.kind in _RECURRENT:
        has_both = {"weight_ih", "weight_hh"} <= shapes.keys()
        return (layer.kind, shapes["weight_ih"][1], shapes["weight_hh"][1]) if has_both else None
    if layer.kind == "attention":
        return ("attention", layer.settings.get("embed_dim"))
    return _of_first(layer.kind, shapes, ())


def kind_of_signature(signature: Hashable) -> object:
    """The kind of layer of a signature."""
    return signature[0] if isinstance(signature, tuple) else None


def source_signature(leaves: Mapping[str, Shape], layer_type: str, layout: str, facts: Facts) -> Hashable | None:
    """Of a layer of theirs, from its arrays' names and stored shapes; None when kind or axis order is not certain.

    leaves      name in the layer → stored shape
    layer_type  the framework's word, "" when the file has none
    """
    kind = _KINDS.get(layer_type) or _kind_by_leaves(leaves)
    if kind in OURS:
        weight = next((leaves[leaf] for leaf in _WEIGHTS if len(leaves.get(leaf, ())) > 1), None)
        return None if weight is None else _of_stored(kind, weight, layout, facts)
    if kind in _RECURRENT:
        return _of_cell(kind, leaves, layout)
    if kind == "attention":
        return (kind, leaves["query/kernel"][0]) if "query/kernel" in leaves else None
    return _of_first(kind, leaves, _VECTORS if kind in ("batch_norm", "norm") else ())


def _of_first(kind: Kind | None, leaves: Mapping[str, Shape], names: Sequence[str]) -> Hashable | None:
    """Of a layer whose first array decides, or the first of these names."""
    shape = next((leaves[leaf] for leaf in names or leaves if leaf in leaves), None)
    if shape is None or kind not in ("batch_norm", "norm", "prelu", "embedding"):
        return None
    return (kind, shape if kind == "embedding" else prod(shape))


def _of_cell(kind: Kind, leaves: Mapping[str, Shape], layout: str) -> Hashable | None:
    """(kind, inputs, hidden), from the two kernels and the axis that holds each."""
    forms = (
        ("tensorflow", "kernel", "recurrent_kernel", 0),
        ("onnx", "W", "R", 2),
        (layout, "weight_ih_l0", "weight_hh_l0", 1),
    )
    for form, inputs, hidden, axis in forms:
        if form == layout and inputs in leaves and hidden in leaves:
            return (kind, leaves[inputs][axis], leaves[hidden][axis])
    return None


def _kind_by_leaves(leaves: Mapping[str, Shape]) -> Kind | None:
    by_name = next((kind for names, kind in _BY_LEAF if leaves.keys() & names), None)
    if by_name is not None:
        return by_name
    if "recurrent_kernel" in leaves:
        rows, columns = leaves["recurrent_kernel"][0], leaves["recurrent_kernel"][-1]
        return _BY_GATES.get(columns // max(rows, 1))
    rank = max((len(leaves[leaf]) for leaf in _WEIGHTS if leaf in leaves), default=0)
    if rank >= 2:
        return "dense" if rank == 2 else "conv"
    return "norm" if _is_norm(leaves) else None


def _is_norm(leaves: Mapping[str, Shape]) -> bool:
    are_vectors = leaves.keys() <= {"gamma", "beta", "scale", "weight", "bias"} and len({*leaves.values()}) == 1
    return are_vectors and (len(leaves) == 2 or bool(leaves.keys() & {"scale", "weight"}))


def _of_stored(kind: Kind, shape: Shape, layout: str, facts: Facts) -> Hashable | None:
    """The signature of a weight as stored; None when nothing decides its axes."""
    if kind == "depthwise" and layout.startswith("tensorflow") and shape[-2] != 1:
        return _of_weight(kind, (shape[-2] * shape[-1], 1, *shape[:-2]))
    stored = "conv" if kind == "depthwise" or (len(shape) > 2 and kind == "dense") else kind
    try:
        moved = axis_operations(stored_axes(layout, stored, facts), OURS[stored], shape)
        return _of_weight(kind if kind == "depthwise" else stored, shape_after(moved, [shape]))
    except PlanError:
        return None


def _of_weight(kind: Kind, shape: Shape) -> Hashable:
    """A pointwise convolution is a dense layer; one input channel for each group is depthwise."""
    if kind in ("dense", "conv") and set(shape[2:]) <= {1} and len(shape) > 1 and shape[1] != 1:
        return ("dense", shape[:2])
    return ("depthwise" if kind == "conv" and shape[1] == 1 else kind, shape)
