"""Which axis order a framework stores, by (framework's layout, kind of layer, leaf). Never decided by trying shapes."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod

from regraft.errors import Advice, PlanError, UndecidableError
from regraft.operations.joins import Divide, Fill
from regraft.operations.moves import Flip, PermuteFlat, Reshape, Transpose
from regraft.operations.operation import Operation, Shape
from regraft.plans.layers import Kind, Layer
from regraft.plans.parametrized import parametrized_rules
from regraft.plans.recurrent_layouts import Facts, LeafRule, Rules, attention_rules, joined_projections, recurrent_rules

# The axes of a weight as each framework stores it. "*" stands for the spatial axes; "mult" is the depthwise
# multiplier; "flip" says that the kernel is stored reversed. Ours is torch's. Measured against the frameworks:
# tests/test_layouts.py has the cost of each wrong variant.
OURS = {"dense": "out in", "conv": "out in *", "depthwise": "out in *", "conv_transpose": "in out *"}
STORED: dict[str, dict[str, str]] = {
    "torch": OURS,
    # A MatMul's kernel is (in, out), a Gemm's either: only the node decides (the fact kernel_axes).
    "onnx": {kind: axes for kind, axes in OURS.items() if kind != "dense"},
    "caffe": OURS,
    "mxnet": OURS,
    "tensorflow": {"dense": "in out", "conv": "* in out", "depthwise": "* in mult", "conv_transpose": "* out in"},
    # A `kernel` alone is TensorFlow's or Flax': they agree on these kinds and differ on transposed convolutions.
    "tensorflow-or-flax": {"dense": "in out", "conv": "* in out", "depthwise": "* in mult"},
    # Flax' transposed convolution is a correlation over a stretched input: reversed, compared with torch.
    "flax": {"dense": "in out", "conv": "* in out", "depthwise": "* in out", "conv_transpose": "* in out flip"},
    "tflite": {"dense": "out in", "conv": "out * in", "depthwise": "in * out", "conv_transpose": "out * in"},
    # PaddlePaddle's are torch's but for the dense kernels; MLX has channels last; Haiku and Sonnet are Flax' kin, whose
    # transposed convolutions are asked for.
    "paddle": {"dense": "in out", "conv": "out in *", "depthwise": "out in *", "conv_transpose": "in out *"},
    "mlx": {"dense": "out in", "conv": "out * in", "depthwise": "out * in"},
    "haiku": {"dense": "in out", "conv": "* in out", "depthwise": "* in out"},
    "ncnn": {"dense": "out in", "conv": "out in *", "depthwise": "out in *", "conv_transpose": "out in *"},
    "coreml": OURS,
    "theano": {"dense": "in out", "conv": "out in * flip", "depthwise": "out in * flip"},
    "theano-unflipped": {"dense": "in out", "conv": "out in *", "depthwise": "out in *"},
}
ALIASES = {
    "keras": "tensorflow",
    "tf": "tensorflow",
    "jax": "flax",
    "pytorch": "torch",
    "lasagne": "theano",
    "paddlepaddle": "paddle",
    "sonnet": "haiku",
    "dm-haiku": "haiku",
}

# Leaf names that mean the same, over all frameworks. Torch's own are in, for names that the user's rules made.
WEIGHT = r"weight|weights|kernel|w|W"
BIAS = r"bias|biases|b"
NORM_WEIGHT = r"weight|gamma|scale"
NORM_BIAS = r"bias|beta|offset"
MEAN = r"running_mean|moving_mean|mean|_mean|(?:~\.)?mean_ema\.average"
VARIANCE = r"running_var|moving_variance|moving_var|variance|var|_variance|(?:~\.)?var_ema\.average"
EMBEDDING = r"weight|weights|embedding|embeddings"
ALPHA = r"weight|alpha|alphas|gamma|slope"

# A leaf that only one family uses gives away the layout of a file that does not declare one.
_OWNED = {
    "tensorflow": re.compile(
        r"depthwise_kernel|depthwise_weights|pointwise_kernel|pointwise_weights|recurrent_kernel|embeddings|"
        r"moving_variance|biases"
    ),
    "paddle": re.compile(r"_mean|_variance"),
    "haiku": re.compile(r"average"),
    "torch": re.compile(r"running_mean|running_var|num_batches_tracked|in_proj_weight|weight_[ih]h_l\d+(_reverse)?"),
}


def known_layout(layout: str | None) -> str | None:
    """The layout under its own name. Raises PlanError when there is no such layout."""
    if layout is None:
        return None
    name = ALIASES.get(layout.lower(), layout.lower())
    if name not in STORED:
        raise PlanError(f"There is no layout {layout!r}. Layouts: {', '.join(STORED)}.")
    return name


def deduced_layout(names: Iterable[str]) -> tuple[str | None, str]:
    """(layout, why) judged by leaf names that only one family uses; (None, "") when they say nothing or disagree.

    names   dotted source names

    Leaves that two families share decide only together: a `kernel` is TensorFlow's or Flax'. These two agree on most
    kinds of layers, so that without further evidence the answer is "tensorflow-or-flax".
    """
    known = list(names)
    leaves = {name.rpartition(".")[2] for name in known}
    owned = {layout: sorted(filter(pattern.fullmatch, leaves)) for layout, pattern in _OWNED.items()}
    if "kernel" in leaves and not owned["torch"]:
        return _layout_of_kernels(known, leaves, owned["tensorflow"])
    owners = [layout for layout, words in owned.items() if words]
    if not owners and "weight" in leaves and leaves.isdisjoint({"weights", "gamma", "W"}):
        return "torch", "arrays are called weight"
    if len(owners) != 1:
        return None, ""
    return owners[0], f"arrays are called {', '.join(owned[owners[0]][:3])}"


def _layout_of_kernels(names: Sequence[str], leaves: set[str], owned: Sequence[str]) -> tuple[str | None, str]:
    """Whose the arrays called kernel are: Keras has gamma and moving_mean, Flax scale, mean and params/…"""
    tensorflow = [*owned, *sorted(leaves & {"gamma", "moving_mean"})]
    flax = [*sorted(leaves & {"embedding", "scale"}), *sorted(leaves & {"mean", "var"})]
    flax += sorted({name.split(".")[0] for name in names} & {"params", "batch_stats"})
    if tensorflow and flax:
        return None, f"arrays are called {tensorflow[0]}, as in TensorFlow, and {flax[0]}, as in Flax"
    layout, words = ("tensorflow", tensorflow) if tensorflow else ("flax", flax) if flax else ("tensorflow-or-flax", [])
    return layout, f"arrays are called {', '.join(['kernel', *words][:3])}"


def axis_operations(stored: str, ours: str, shape: Shape) -> tuple[Operation, ...]:
    """The transpose (and flip) from the stored axes to ours, for a shape of this rank.

    >>> [str(operation) for operation in axis_operations("* in out", "out in *", (3, 3, 8, 16))]
    ['(h, w, in, out) -> (out, in, h, w)']
    """
    spatial = ("t", "d", "h", "w")[-(len(shape) - 2) :] if len(shape) > 2 else ()
    words = _axis_words(stored, spatial)
    wanted = _axis_words(ours, spatial)
    axes = tuple(words.index(word) for word in wanted)
    operations: list[Operation] = []
    if axes != tuple(range(len(axes))):
        operations.append(Transpose(axes, words))
    if "flip" in stored.split():
        operations.append(Flip(tuple(wanted.index(word) for word in spatial)))
    return tuple(operations)


def _axis_words(axes: str, spatial: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for axis in axes.split() if axis != "flip" for word in (spatial if axis == "*" else (axis,)))


def leaf_rules(layout: str, layer: Layer) -> Rules:
    """Leaf of ours → the rules that make it of sources of this layout; the first whose sources exist counts.

    Leaves without an entry have no translation: only a source of the very same name can fill them.
    """
    maker = _RULES.get(layer.kind)
    rules = {} if maker is None else maker(layout, layer)
    if layout == "torch":
        for leaf, more in parametrized_rules(layer).items():
            rules[leaf] = (*rules.get(leaf, ()), *more)
    return rules


def _as_stored(pattern: str) -> LeafRule:
    return LeafRule((pattern,), lambda shapes, facts: ())


def _flat(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    """What goes with a map of channels is stored as (1, 1, c) or (c, 1, 1): the same numbers as (c,)."""
    big = [size for size in shapes[0] if size != 1]
    return (Reshape((big[0] if big else 1,)),) if len(shapes[0]) > 1 and len(big) <= 1 else ()


def _flat_bias(layer: Layer, shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    """A bias may have axes of 1, or one for the heads of attention: (heads, size)."""
    target = layer.arrays["bias"].shape
    return (Reshape(target),) if len(shapes[0]) > 1 and prod(shapes[0]) == prod(target) else ()


def _norm_rules(layout: str, layer: Layer) -> Rules:
    """Behind a map of channels they may be stored as (c, 1, 1): the same numbers."""
    is_flat = all(len(array.shape) == 1 for array in layer.arrays.values())
    patterns = {"weight": NORM_WEIGHT, "bias": NORM_BIAS}
    return {
        leaf: (LeafRule((pattern,), _flat) if is_flat else _as_stored(pattern),) for leaf, pattern in patterns.items()
    }


def _kernel_rules(layout: str, layer: Layer) -> Rules:
    rules: Rules = {"bias": (LeafRule((BIAS,), partial(_flat_bias, layer)),)}
    if "weight" in layer.arrays:
        rules = {"weight": (_weight_rule(layout, layer),), **rules}
    if layer.kind == "dense" and layout == "torch" and "weight" in layer.arrays:
        for leaf, joined in joined_projections(layer).items():
            rules[leaf] = (*rules[leaf], *joined)
    if layout == "caffe":
        rules = {leaf: (*own, _as_stored(str(index))) for index, (leaf, own) in enumerate(rules.items())}
    return rules


def _weight_rule(layout: str, layer: Layer) -> LeafRule:
    rank = len(layer.arrays["weight"].shape)

    def operations(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
        shape = shapes[0]
        if layer.kind == "depthwise" and layout.startswith("tensorflow"):
            return _depthwise(shape, layer)
        if len(shape) != rank:
            moved = _between_dense_and_pointwise(layout, layer, shape, facts)
        else:
            axes = stored_axes(layout, layer.kind, facts, layer.full("weight"))
            moved = axis_operations(axes, OURS[layer.kind], shape)
        return _unflattened(layer, facts, moved) if layer.kind == "dense" else moved

    more = {"depthwise": r"|depthwise_kernel|depthwise_weights", "conv_transpose": ""}
    return LeafRule((WEIGHT + more.get(layer.kind, r"|pointwise_kernel|pointwise_weights"),), operations)


def stored_axes(layout: str, kind: str, facts: Facts, target: str = "") -> str:
    """The axes as stored; a dense layer's from the file where it records them. Raises UndecidableError.

    target   the array of ours, which the error's advice names
    """
    recorded = facts.get("kernel_axes")
    if kind == "dense" and isinstance(recorded, (list, tuple)):
        return " ".join(map(str, recorded))
    if kind not in STORED[layout]:
        text = f"The file does not record how {layout} orders the axes of this {kind} kernel."
        raise UndecidableError(text, advice=_order_advice(layout, target))
    return STORED[layout][kind]


def _order_advice(layout: str, target: str) -> list[Advice]:
    if layout == "tensorflow-or-flax":
        return [
            Advice("layout", axis_order, f"read the kernels in the axis order of {axis_order}")
            for axis_order in ("tensorflow", "flax")
        ]
    return [
        Advice("adapt", {target: "as stored"}, "read the kernel as (out, in)"),
        Advice("adapt", {target: "transposed"}, "read the kernel as (in, out)"),
    ]


def flatten_advice(layer: Layer, channels: int | str) -> tuple[Advice, ...]:
    """Reorder the inputs of a dense layer behind a flattened map of (h, w, channels), or keep their order."""
    size = layer.arrays["weight"].shape[1]
    count = f", where H·W = {size // channels}" if isinstance(channels, int) else ""
    target = layer.full("weight")
    return (
        Advice("adapt", {target: f"flatten HxWx{channels}"}, f"reorder the inputs from (h, w, c) to (c, h, w){count}"),
        Advice("adapt", {target: "as stored"}, "keep the order of the inputs, where both networks flatten alike"),
    )


def _unflattened(layer: Layer, facts: Facts, moved: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Behind a flattened (h, w, c) map: the inputs in torch's order, (c, h, w). Raises UndecidableError.

    moved   what is decided already, of the axes
    """
    order, channels = facts.get("flatten_order"), facts.get("flatten_channels")
    inputs = layer.arrays["weight"].shape[1]
    if order in (None, "channels_first", "pooled") or channels == inputs:
        return moved
    axes, sizes = facts.get("flatten_axes"), facts.get("flatten_sizes")
    if order == "permuted" and isinstance(axes, list) and isinstance(sizes, list):
        return (*moved, _restored(axes, sizes, inputs))
    if order != "channels_last" or not isinstance(channels, int) or inputs % channels:
        text = f"Its inputs are a flattened map of unknown height and width, in another order than torch's ({order})."
        raise UndecidableError(text, advice=flatten_advice(layer, "C"), decided=moved)
    return (*moved, PermuteFlat(1, (inputs // channels, channels), (1, 0)))


def _restored(axes: Sequence[str], sizes: Sequence[int], inputs: int) -> Operation:
    """A map that was flattened in another order of its axes ("w", "h", "c"): the inputs as torch's (c, d, h, w)."""
    if prod(sizes) != inputs:
        raise UndecidableError(f"A flattened map of {tuple(sizes)} does not have {inputs} values.")
    return PermuteFlat(1, tuple(sizes), tuple(axes.index(axis) for axis in "cdhw" if axis in axes))


def _depthwise(shape: Shape, layer: Layer) -> tuple[Operation, ...]:
    """(h, w, c, m) → (c·m, 1, h, w); a grouped convolution's (h, w, 1, c·m) is recognised by its third axis."""
    out, spatial = layer.arrays["weight"].shape[0], shape[:-2]
    if len(shape) > 2 and shape[-2] == 1:
        return axis_operations("* in out", OURS["depthwise"], shape)
    moved = axis_operations("* in mult", "in mult *", shape)
    return (*moved, Reshape((out, 1, *spatial)))


def _between_dense_and_pointwise(layout: str, layer: Layer, shape: Shape, facts: Facts) -> tuple[Operation, ...]:
    """A 1×1 convolution and a dense layer are the same: drop or add the spatial axes, which must be 1."""
    spatial, name = layer.arrays["weight"].shape[2:], layer.full("weight")
    if layer.kind == "dense" and len(shape) == 3 and STORED[layout].get("dense") != "out in":
        return _without_heads(shape, layer.arrays["weight"].shape)
    if layer.kind == "dense" and len(shape) > 2:
        moved = axis_operations(stored_axes(layout, "conv", facts, name), OURS["conv"], shape)
        order = _after(moved, shape)
        return (*moved, Reshape(order[:2])) if set(order[2:]) == {1} else moved
    if layer.kind == "conv" and len(shape) == 2 and set(spatial) == {1}:
        moved = axis_operations(stored_axes(layout, "dense", facts, name), OURS["dense"], shape)
        return (*moved, Reshape((*_after(moved, shape), *spatial)))
    return ()


def _without_heads(shape: Shape, target: Shape) -> tuple[Operation, ...]:
    """(in, heads, size) or (heads, size, out), as Flax stores attention's projections, → (out, in)."""
    outputs, inputs = target
    for flat in ((shape[0], shape[1] * shape[2]), (shape[0] * shape[1], shape[2])):
        if flat == (inputs, outputs):
            return (Reshape(flat), Transpose((1, 0), ("in", "out")))
    return ()


def _after(moved: Sequence[Operation], shape: Shape) -> Shape:
    return moved[0].shapes([shape])[0] if moved else shape


def _batch_norm_rules(layout: str, layer: Layer) -> Rules:
    rules: Rules = {
        "weight": (LeafRule((NORM_WEIGHT,), _flat),),
        "bias": (LeafRule((NORM_BIAS,), _flat),),
        "running_mean": (LeafRule((MEAN,), _flat),),
        "running_var": (LeafRule((VARIANCE,), _flat),),
    }
    if layout == "caffe":
        # Caffe sums its statistics: the third blob is the number to divide them by.
        for leaf, blob in (("running_mean", "0|mean"), ("running_var", "1|variance")):
            rules[leaf] = (LeafRule((blob, "2|scale_factor"), lambda shapes, facts: (Divide(),)), *rules[leaf])
    return rules


_RULES: dict[Kind, Callable[[str, Layer], Rules]] = {
    **dict.fromkeys(("dense", "conv", "depthwise", "conv_transpose"), _kernel_rules),
    **dict.fromkeys(("lstm", "gru", "rnn"), recurrent_rules),
    "batch_norm": _batch_norm_rules,
    "norm": _norm_rules,
    "embedding": lambda layout, layer: {"weight": (_as_stored(EMBEDDING),)},
    "prelu": lambda layout, layer: {"weight": (LeafRule((ALPHA + "|0",), _flat),)},
    "attention": attention_rules,
}


def absent_value(layer: Layer, leaf: str) -> tuple[Operation, ...] | None:
    """What a norm's scale or shift is when the source has none (`scale=False`, `center=False`): 1 or 0; else None."""
    if layer.kind not in ("batch_norm", "norm") or leaf not in ("weight", "bias"):
        return None
    return (Fill(1.0 if leaf == "weight" else 0.0, layer.arrays[leaf].shape),)
