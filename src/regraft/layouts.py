"""Which axis order a framework stores, by (framework's layout, kind of layer, leaf). Never decided by trying shapes."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from regraft.errors import PlanError
from regraft.layers import Layer
from regraft.operations.joins import Divide, Fill
from regraft.operations.moves import Flip, Reshape, Transpose
from regraft.operations.operation import Operation, Shape

# The axes of a weight as each framework stores it. "*" stands for the spatial axes; "mult" is the depthwise
# multiplier; "flip" says that the kernel is stored turned round. Ours is torch's. Measured against the frameworks:
# tests/test_layouts.py has the cost of each wrong variant.
OURS = {"dense": "out in", "conv": "out in *", "depthwise": "out in *", "conv_transpose": "in out *"}
STORED: dict[str, dict[str, str]] = {
    "torch": OURS,
    "onnx": OURS,
    "caffe": OURS,
    "mxnet": OURS,
    "tensorflow": {"dense": "in out", "conv": "* in out", "depthwise": "* in mult", "conv_transpose": "* out in"},
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
ALPHA = r"weight|alpha|alphas|gamma"

# A leaf that only one family uses tells the layout of a file that does not declare one.
_OWNED = {
    "tensorflow": re.compile(
        r"depthwise_kernel|depthwise_weights|pointwise_kernel|pointwise_weights|recurrent_kernel|embeddings|"
        r"moving_variance|biases"
    ),
    "torch": re.compile(r"running_mean|running_var|num_batches_tracked|in_proj_weight|weight_[ih]h_l\d+(_reverse)?"),
    "flax": re.compile(r"embedding|scale"),
}


@dataclass(frozen=True)
class LeafRule:
    """How one array of ours is made of theirs.

    sources     one pattern for each source, for its name below the layer ("kernel", "lstm_cell.kernel")
    operations  given the sources' shapes
    note        said in the plan
    """

    sources: tuple[str, ...]
    operations: Callable[[Sequence[Shape]], tuple[Operation, ...]]
    note: str = ""


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

    Leaves that two families share decide only together: a `kernel` is TensorFlow's or Flax', and these two
    agree on everything but transposed and depthwise convolutions.
    """
    leaves = {name.rpartition(".")[2] for name in names}
    found = {layout: sorted(leaf for leaf in leaves if pattern.fullmatch(leaf)) for layout, pattern in _OWNED.items()}
    if "kernel" in leaves and not found["torch"]:
        # `scale` beside `kernel` is Flax' (Keras says gamma); `kernel` alone is read as TensorFlow's.
        layout = "flax" if found["flax"] and not found["tensorflow"] and "gamma" not in leaves else "tensorflow"
        return layout, f"arrays are called {', '.join(['kernel', *found[layout]][:3])}"
    found["flax"] = []
    owners = [layout for layout, owned in found.items() if owned]
    if not owners and leaves & {"weight"} and not leaves & {"weights", "gamma", "W"}:
        return "torch", "arrays are called weight"
    if len(owners) != 1:
        return None, ""
    return owners[0], f"arrays are called {', '.join(found[owners[0]][:3])}"


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
    """Leaf of ours → the ways to make it of a source of this layout, the first whose sources exist counts.

    Leaves without an entry have no translation: only a source of the very same name can fill them.
    """
    if layer.kind in OURS:
        rules: dict[str, tuple[LeafRule, ...]] = {"weight": (_weight_rule(layout, layer),), "bias": (_as_stored(BIAS),)}
        if layout == "caffe":
            rules = {leaf: (*ways, _as_stored(str(index))) for index, (leaf, ways) in enumerate(rules.items())}
        return rules
    if layer.kind == "batch_norm":
        return _batch_norm_rules(layout)
    if layer.kind == "norm":
        return {"weight": (_as_stored(NORM_WEIGHT),), "bias": (_as_stored(NORM_BIAS),)}
    if layer.kind == "embedding":
        return {"weight": (_as_stored(EMBEDDING),)}
    if layer.kind == "prelu":
        return {"weight": (LeafRule((ALPHA + "|0",), _flat),)}
    return {}


def _as_stored(pattern: str) -> LeafRule:
    return LeafRule((pattern,), lambda _: ())


def _flat(shapes: Sequence[Shape]) -> tuple[Operation, ...]:
    """Keras' PReLU has an alpha of (1, 1, c) when it is shared over the map: the same numbers as (c,)."""
    big = [size for size in shapes[0] if size != 1]
    return (Reshape((big[0] if big else 1,)),) if len(shapes[0]) > 1 and len(big) <= 1 else ()


def _weight_rule(layout: str, layer: Layer) -> LeafRule:
    stored = STORED[layout].get(layer.kind)
    ours = OURS[layer.kind]
    rank = len(layer.arrays["weight"].shape)
    if stored is None:
        raise PlanError(f"layout {layout!r} says nothing of {layer.class_name} ({layer.name})")

    def operations(shapes: Sequence[Shape]) -> tuple[Operation, ...]:
        shape = shapes[0]
        if layer.kind == "depthwise" and layout == "tensorflow":
            return _depthwise(shape, layer)
        if len(shape) == rank:
            return axis_operations(stored, ours, shape)
        return _between_dense_and_pointwise(layout, layer, shape)

    pattern = WEIGHT + (r"|depthwise_kernel|depthwise_weights" if layer.kind == "depthwise" else "")
    return LeafRule((pattern,), operations)


def _depthwise(shape: Shape, layer: Layer) -> tuple[Operation, ...]:
    """(h, w, c, m) → (c·m, 1, h, w); a grouped convolution's (h, w, 1, c·m) is told apart by its third axis."""
    out, spatial = layer.arrays["weight"].shape[0], shape[:-2]
    if len(shape) > 2 and shape[-2] == 1:
        return axis_operations("* in out", OURS["depthwise"], shape)
    moved = axis_operations("* in mult", "in mult *", shape)
    return (*moved, Reshape((out, 1, *spatial)))


def _between_dense_and_pointwise(layout: str, layer: Layer, shape: Shape) -> tuple[Operation, ...]:
    """A 1×1 convolution and a dense layer are the same: drop or add the spatial axes, which must be 1."""
    dense, conv = STORED[layout]["dense"], STORED[layout]["conv"]
    target = layer.arrays["weight"].shape
    if layer.kind == "dense" and len(shape) > 2:
        moved = axis_operations(conv, OURS["conv"], shape)
        order = moved[0].shapes([shape])[0] if moved else shape
        return (*moved, Reshape(order[:2])) if set(order[2:]) == {1} else moved
    if layer.kind == "conv" and len(shape) == 2 and set(target[2:]) == {1}:
        moved = axis_operations(dense, OURS["dense"], shape)
        order = moved[0].shapes([shape])[0] if moved else shape
        return (*moved, Reshape((*order, *target[2:])))
    return ()


def _batch_norm_rules(layout: str) -> dict[str, tuple[LeafRule, ...]]:
    if layout == "caffe":
        # Caffe sums its statistics: the third blob is the number to divide them by.
        divided = lambda _: (Divide(),)  # noqa: E731
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
