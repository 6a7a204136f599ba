"""Which axis order a framework stores, by (framework's layout, kind of layer, leaf). Never decided by trying shapes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from regraft.errors import PlanError, UndecidableError
from regraft.operations.joins import Divide, Fill
from regraft.operations.moves import Flip, PermuteFlat, Reshape, Transpose
from regraft.operations.operation import Operation, Shape
from regraft.plans.layers import Layer
from regraft.plans.recurrent_layouts import Facts, LeafRule, attention_rules, recurrent_rules

# The axes of a weight as each framework stores it. "*" stands for the spatial axes; "mult" is the depthwise
# multiplier; "flip" says that the kernel is stored turned round. Ours is torch's. Measured against the frameworks:
# tests/test_layouts.py has the cost of each wrong variant.
OURS = {"dense": "out in", "conv": "out in *", "depthwise": "out in *", "conv_transpose": "in out *"}
STORED: dict[str, dict[str, str]] = {
    "torch": OURS,
    # A MatMul's kernel is (in, out), a Gemm's either: only the node tells (the fact kernel_axes).
    "onnx": {kind: axes for kind, axes in OURS.items() if kind != "dense"},
    "caffe": OURS,
    "mxnet": OURS,
    "tensorflow": {"dense": "in out", "conv": "* in out", "depthwise": "* in mult", "conv_transpose": "* out in"},
    # A `kernel` alone is TensorFlow's or Flax': they agree on these kinds and differ on transposed convolutions.
    "tensorflow-or-flax": {"dense": "in out", "conv": "* in out", "depthwise": "* in mult"},
    # Flax' transposed convolution is a correlation over a stretched input: turned round, seen from torch.
    "flax": {"dense": "in out", "conv": "* in out", "depthwise": "* in out", "conv_transpose": "* in out flip"},
    "tflite": {"dense": "out in", "conv": "out * in", "depthwise": "in * out", "conv_transpose": "out * in"},
    "theano": {"dense": "in out", "conv": "out in * flip", "depthwise": "out in * flip"},
    "theano-unflipped": {"dense": "in out", "conv": "out in *", "depthwise": "out in *"},
}
ALIASES = {"keras": "tensorflow", "tf": "tensorflow", "jax": "flax", "pytorch": "torch", "lasagne": "theano"}

# Leaf names that mean the same, over all frameworks. Torch's own are in, for names that the user's rules made.
WEIGHT = r"weight|weights|kernel|w|W"
BIAS = r"bias|biases|b"
NORM_WEIGHT = r"weight|gamma|scale"
NORM_BIAS = r"bias|beta|offset"
MEAN = r"running_mean|moving_mean|mean"
VARIANCE = r"running_var|moving_variance|moving_var|variance|var"
EMBEDDING = r"weight|weights|embedding|embeddings"
ALPHA = r"weight|alpha|alphas|gamma|slope"

# A leaf that only one family uses tells the layout of a file that does not declare one.
_OWNED = {
    "tensorflow": re.compile(
        r"depthwise_kernel|depthwise_weights|pointwise_kernel|pointwise_weights|recurrent_kernel|embeddings|"
        r"moving_variance|biases"
    ),
    "torch": re.compile(r"running_mean|running_var|num_batches_tracked|in_proj_weight|weight_[ih]h_l\d+(_reverse)?"),
    "flax": re.compile(r"embedding|scale"),
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
    found = {layout: sorted(leaf for leaf in leaves if pattern.fullmatch(leaf)) for layout, pattern in _OWNED.items()}
    if "kernel" in leaves and not found["torch"]:
        return _of_kernels(known, leaves, found)
    found["flax"] = []
    owners = [layout for layout, owned in found.items() if owned]
    if not owners and leaves & {"weight"} and not leaves & {"weights", "gamma", "W"}:
        return "torch", "arrays are called weight"
    if len(owners) != 1:
        return None, ""
    return owners[0], f"arrays are called {', '.join(found[owners[0]][:3])}"


def _of_kernels(names: Sequence[str], leaves: set[str], found: Mapping[str, Sequence[str]]) -> tuple[str | None, str]:
    """Whose the arrays called kernel are: Keras says gamma and moving_mean, Flax scale, mean and params/…"""
    tensorflow = [*found["tensorflow"], *sorted(leaves & {"gamma", "moving_mean"})]
    flax = [*found["flax"], *sorted(leaves & {"mean", "var"})]
    flax += sorted({name.split(".")[0] for name in names} & {"params", "batch_stats"})
    if tensorflow and flax:
        return None, f"arrays are called {tensorflow[0]}, as in TensorFlow, and {flax[0]}, as in Flax"
    layout, owned = ("tensorflow", tensorflow) if tensorflow else ("flax", flax) if flax else ("tensorflow-or-flax", [])
    return layout, f"arrays are called {', '.join(['kernel', *owned][:3])}"


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


def leaf_rules(layout: str, layer: Layer) -> dict[str, tuple[LeafRule, ...]]:
    """Leaf of ours → the ways to make it of sources of this layout; the first whose sources exist counts.

    Leaves without an entry have no translation: only a source of the very same name can fill them.
    """
    if layer.kind in OURS:
        rules: dict[str, tuple[LeafRule, ...]] = {
            "weight": (_weight_rule(layout, layer),),
            "bias": (LeafRule((BIAS,), _flat),),
        }
        if layout == "caffe":
            rules = {leaf: (*ways, _as_stored(str(index))) for index, (leaf, ways) in enumerate(rules.items())}
        return rules
    if layer.kind == "batch_norm":
        return _batch_norm_rules(layout)
    if layer.kind == "norm":
        # Behind a map of channels they may be stored as (c, 1, 1): the same numbers.
        is_flat = all(len(array.shape) == 1 for array in layer.arrays.values())
        patterns = {"weight": NORM_WEIGHT, "bias": NORM_BIAS}
        return {leaf: (LeafRule((one,), _flat) if is_flat else _as_stored(one),) for leaf, one in patterns.items()}
    if layer.kind == "embedding":
        return {"weight": (_as_stored(EMBEDDING),)}
    if layer.kind == "prelu":
        return {"weight": (LeafRule((ALPHA + "|0",), _flat),)}
    if layer.kind in ("lstm", "gru", "rnn"):
        return recurrent_rules(layout, layer)
    if layer.kind == "attention":
        return attention_rules(layout, layer)
    return {}


def _as_stored(pattern: str) -> LeafRule:
    return LeafRule((pattern,), lambda shapes, facts: ())


def _flat(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    """What goes with a map of channels is stored as (1, 1, c) or (c, 1, 1): the same numbers as (c,)."""
    big = [size for size in shapes[0] if size != 1]
    return (Reshape((big[0] if big else 1,)),) if len(shapes[0]) > 1 and len(big) <= 1 else ()


def _weight_rule(layout: str, layer: Layer) -> LeafRule:
    ours = OURS[layer.kind]
    rank = len(layer.arrays["weight"].shape)

    def operations(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
        shape = shapes[0]
        if layer.kind == "depthwise" and layout.startswith("tensorflow"):
            return _depthwise(shape, layer)
        if len(shape) != rank:
            moved = _between_dense_and_pointwise(layout, layer, shape, facts)
        else:
            moved = axis_operations(stored_axes(layout, layer.kind, facts), ours, shape)
        return (*moved, *_unflattened(layer, facts)) if layer.kind == "dense" else moved

    pattern = WEIGHT + (r"|depthwise_kernel|depthwise_weights" if layer.kind == "depthwise" else "")
    pattern += r"|pointwise_kernel|pointwise_weights" if layer.kind in ("conv", "dense") else ""
    return LeafRule((pattern,), operations)


def stored_axes(layout: str, kind: str, facts: Facts) -> str:
    """The axes as stored; a dense layer's from the file where it tells them. Raises UndecidableError."""
    told = facts.get("kernel_axes")
    if kind == "dense" and isinstance(told, (list, tuple)):
        return " ".join(map(str, told))
    if kind not in STORED[layout]:
        hint = 'Say layout="tensorflow" or "flax".' if layout == "tensorflow-or-flax" else _EITHER
        raise UndecidableError(f"Nothing tells how {layout} orders the axes of this {kind} layer. {hint}")
    return STORED[layout][kind]


_EITHER = 'Say adapt={"…": "as stored"} when it is (out, in), "transposed" when it is (in, out).'


def _unflattened(layer: Layer, facts: Facts) -> tuple[Operation, ...]:
    """Behind a flattened (h, w, c) map: the inputs in torch's order, (c, h, w). Raises UndecidableError."""
    order, channels = facts.get("flatten_order"), facts.get("flatten_channels")
    inputs = layer.arrays["weight"].shape[1]
    if order in (None, "channels_first", "pooled") or channels == inputs:
        return ()
    axes, sizes = facts.get("flatten_axes"), facts.get("flatten_sizes")
    if order == "permuted" and isinstance(axes, list) and isinstance(sizes, list):
        return _restored(axes, sizes, inputs)
    if order != "channels_last" or not isinstance(channels, int) or inputs % channels:
        raise UndecidableError(
            f"Its inputs are a flattened map in another order than torch's ({order}), of unknown height and width.\n"
            f'Say adapt={{"{layer.name}": "flatten HxWxC"}} with the numbers, or "as stored" when the model keeps it.'
        )
    return (PermuteFlat(1, (inputs // channels, channels), (1, 0)),)


def _restored(axes: Sequence[str], sizes: Sequence[int], inputs: int) -> tuple[Operation, ...]:
    """A map that was flattened in another order of its axes ("w", "h", "c"): the inputs as torch's (c, d, h, w)."""
    if prod(sizes) != inputs:
        raise UndecidableError(f"A flattened map of {tuple(sizes)} does not have {inputs} values.")
    return (PermuteFlat(1, tuple(sizes), tuple(axes.index(axis) for axis in "cdhw" if axis in axes)),)


def _depthwise(shape: Shape, layer: Layer) -> tuple[Operation, ...]:
    """(h, w, c, m) → (c·m, 1, h, w); a grouped convolution's (h, w, 1, c·m) is told apart by its third axis."""
    out, spatial = layer.arrays["weight"].shape[0], shape[:-2]
    if len(shape) > 2 and shape[-2] == 1:
        return axis_operations("* in out", OURS["depthwise"], shape)
    moved = axis_operations("* in mult", "in mult *", shape)
    return (*moved, Reshape((out, 1, *spatial)))


def _between_dense_and_pointwise(layout: str, layer: Layer, shape: Shape, facts: Facts) -> tuple[Operation, ...]:
    """A 1×1 convolution and a dense layer are the same: drop or add the spatial axes, which must be 1."""
    target = layer.arrays["weight"].shape
    if layer.kind == "dense" and len(shape) > 2:
        moved = axis_operations(stored_axes(layout, "conv", facts), OURS["conv"], shape)
        order = moved[0].shapes([shape])[0] if moved else shape
        return (*moved, Reshape(order[:2])) if set(order[2:]) == {1} else moved
    if layer.kind == "conv" and len(shape) == 2 and set(target[2:]) == {1}:
        moved = axis_operations(stored_axes(layout, "dense", facts), OURS["dense"], shape)
        order = moved[0].shapes([shape])[0] if moved else shape
        return (*moved, Reshape((*order, *target[2:])))
    return ()


def _batch_norm_rules(layout: str) -> dict[str, tuple[LeafRule, ...]]:
    if layout == "caffe":
        # Caffe sums its statistics: the third blob is the number to divide them by.
        divided = lambda shapes, facts: (Divide(),)  # noqa: E731
        return {
            "weight": (_as_stored(NORM_WEIGHT),),
            "bias": (_as_stored(NORM_BIAS),),
            "running_mean": (LeafRule(("0|mean", "2|scale_factor"), divided), _as_stored(MEAN)),
            "running_var": (LeafRule(("1|variance", "2|scale_factor"), divided), _as_stored(VARIANCE)),
        }
    return {
        "weight": (_as_stored(NORM_WEIGHT),),
        "bias": (_as_stored(NORM_BIAS),),
        "running_mean": (_as_stored(MEAN),),
        "running_var": (_as_stored(VARIANCE),),
    }


def absent_value(layer: Layer, leaf: str) -> tuple[Operation, ...] | None:
    """What a norm's scale or shift is when the source has none (`scale=False`, `center=False`): 1 or 0; else None."""
    if layer.kind not in ("batch_norm", "norm") or leaf not in ("weight", "bias"):
        return None
    return (Fill(1.0 if leaf == "weight" else 0.0, layer.arrays[leaf].shape),)
