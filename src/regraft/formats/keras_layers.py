"""What Keras' layers hold and need: the names of their weights in order, and the facts in their settings."""

import re
from collections.abc import Callable, Iterator, Mapping

from regraft.arrays import Attribute, Facts, Requirement, requirements_for
from regraft.formats.flattening import SPATIAL, flatten_facts
from regraft.formats.keras_config import KerasLayer, Settings
from regraft.formats.keras_functions import layer_function

WEIGHTS = {  # class → weights in the order in which Keras creates them; a bias may be off
    "Dense": ("kernel", "bias"),
    "EinsumDense": ("kernel", "bias"),
    "Conv1D": ("kernel", "bias"),
    "Conv2D": ("kernel", "bias"),
    "Conv3D": ("kernel", "bias"),
    "Conv1DTranspose": ("kernel", "bias"),
    "Conv2DTranspose": ("kernel", "bias"),
    "Conv3DTranspose": ("kernel", "bias"),
    "DepthwiseConv1D": ("kernel", "bias"),
    "DepthwiseConv2D": ("kernel", "bias"),
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "LSTM": ("kernel", "recurrent_kernel", "bias"),
    "GRU": ("kernel", "recurrent_kernel", "bias"),
    "SimpleRNN": ("kernel", "recurrent_kernel", "bias"),
    "ConvLSTM1D": ("kernel", "recurrent_kernel", "bias"),
    "ConvLSTM2D": ("kernel", "recurrent_kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
    "RMSNormalization": ("scale",),
    "Embedding": ("embeddings",),
    "PReLU": ("alpha",),
    "Normalization": ("mean", "variance", "count"),
    "LayerScale": ("gamma",),
}
_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
_FLOAT8 = tuple(f"{name}_{what}" for name in ("inputs", "kernel", "outputs_grad") for what in ("scale", "amax_history"))
ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention")
_POOLS = re.compile(r"(Max|Average)Pool(?:ing)?[123]D$")
_GATES = {"LSTM": "ifco", "ConvLSTM1D": "ifco", "ConvLSTM2D": "ifco", "GRU": "zrh"}


def leaf_names(class_name: str, settings: Settings | None, count: int, *, is_coded: bool = False) -> tuple[str, ...]:
    """The names of a layer's `count` weights, in order; their numbers where the file leaves a doubt.

    settings  the layer's own, None when the file has no configuration: then a batch-norm of three weights may lack
              its scale or its center, and the one that it has is called "gamma_or_beta"
    is_coded  whether the first weight holds integers: then scales stand behind the weights
    """
    names = WEIGHTS.get(class_name, ())
    extra = _extra_names(names, count, is_coded=is_coded)
    if extra:
        return (*names[: count - len(extra)], *extra)
    if settings is not None:
        names = tuple(name for name in names if settings.get(_SWITCHES.get(name, ""), True) is not False)
    else:
        names = _names_for(names, count)
    return names if len(names) == count else tuple(str(index) for index in range(count))


def _names_for(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The names that remain when `count` weights are stored and nothing says which are switched off."""
    if names[-1:] == ("bias",) and count == len(names) - 1:
        return names[:-1]
    if names[:2] == ("gamma", "beta") and 0 < len(names) - count <= 2:
        return (("gamma_or_beta",) if len(names) - count == 1 else ()) + names[2:]
    return names


def _extra_names(names: tuple[str, ...], count: int, *, is_coded: bool) -> tuple[str, ...]:
    """What `quantize` puts behind a layer's weights, of which only a bias may be off; () for a plain layer."""
    if names not in (("kernel", "bias"), ("embeddings",)):
        return ()
    scale = f"{names[0]}_scale"
    coded: tuple[tuple[str, ...], ...] = ((scale,), (scale, f"{names[0]}_zero", "g_idx"))
    candidates = coded if is_coded else (_FLOAT8,)
    return next((extra for extra in candidates if count - len(extra) in (1, len(names))), ())


# (weights that must be there, the rank of the first one or None for any, class): the first that applies
_BY_WEIGHTS: tuple[tuple[tuple[str, ...], int | None, str], ...] = (
    (("moving_mean",), None, "BatchNormalization"),
    (("pointwise_kernel",), 4, "SeparableConv2D"),
    (("pointwise_kernel",), 3, "SeparableConv1D"),
    (("pointwise_kernel",), None, ""),
    (("depthwise_kernel",), None, "DepthwiseConv2D"),
    (("query/kernel", "key/kernel", "value/kernel"), None, "MultiHeadAttention"),
    (("kernel",), 2, "Dense"),
    (("embeddings",), None, "Embedding"),
    (("alpha",), None, "PReLU"),
)


def class_by_weights(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The class that a layer's weights leave no doubt of, by their names and shapes; else "".

    A kernel of rank 4 alone is a Conv2D's, a Conv2DTranspose's or a Keras 3 DepthwiseConv2D's: "".
    """
    if len(shapes.get("recurrent_kernel", ())) == 2 and "moving_mean" not in shapes:
        units, width = shapes["recurrent_kernel"]
        return {4 * units: "LSTM", 3 * units: "GRU", units: "SimpleRNN"}.get(width, "")
    for names, rank, class_name in _BY_WEIGHTS:
        if shapes.keys() >= set(names) and rank in (None, len(shapes[names[0]])):
            return class_name
    return ""


def facts_by_weights(layer_type: str, shapes: Mapping[str, tuple[int, ...]]) -> Facts:
    """What a layer's weights alone determine: the GRU whose reset comes after the product has two rows of biases."""
    facts: Facts = {"gate_order": _GATES[layer_type]} if layer_type in _GATES else {}
    if layer_type == "GRU" and "bias" in shapes:
        facts["reset_after"] = len(shapes["bias"]) == 2
    return facts


def requirements(root: KerasLayer) -> Iterator[Requirement]:
    """The facts of every layer below `root`, in the network's order."""
    for model in root.walk():
        for layer in model.children:
            facts = {**_facts(layer), **_from_neighbours(layer, model)}
            if model.class_name == "Bidirectional":
                facts.pop("go_backwards", None)  # its second layer does, as the other direction of torch's layer
            yield from requirements_for(layer.path, facts)


def _facts(layer: KerasLayer) -> Facts:
    """The facts in the layer's own settings."""
    settings, kind = layer.settings, layer.class_name
    facts: Facts = {}
    if "Conv" in kind:
        facts |= _convolution(settings)
    if pool := _POOLS.match(kind):
        facts |= {"pool": pool[1].lower(), **_pooling(settings)}
    if kind in _OF_CLASS:
        facts |= _OF_CLASS[kind](settings)
    if "use_bias" in settings:
        facts["use_bias"] = bool(settings["use_bias"])
    if kind.startswith("ZeroPadding") and "padding" in settings:
        facts["pad"] = _explicit_padding(layer, rank=int(kind[-2]))["padding"]
    if "activation" in settings:
        facts["activation"] = _activation(settings["activation"])
    elif kind in _ACTIVATION_LAYERS:
        facts["activation"] = _ACTIVATION_LAYERS[kind](settings)
    return facts | layer_function(kind, settings, layer.shape)


def _chosen(settings: Settings, *keys: Attribute) -> Facts:
    return {key: settings[key] for key in keys if key in settings}


def _norm(settings: Settings) -> Facts:
    eps = settings.get("epsilon", 1e-3)
    known: Facts = {"eps": float(eps)} if isinstance(eps, int | float) else {}  # a damaged file has another value
    return {**known, **_chosen(settings, "axis", "center", "scale", "groups")}


def _batch_norm(settings: Settings) -> Facts:
    return {**_norm(settings), "momentum": float(settings.get("momentum", 0.99))}


def _gated(settings: Settings, gates: str) -> Facts:
    recurrent = _activation(settings.get("recurrent_activation", "hard_sigmoid"))
    return {
        "gate_order": gates, **_chosen(settings, "go_backwards", "return_sequences"), "recurrent_activation": recurrent,
    }  # fmt: skip


def _lstm(settings: Settings) -> Facts:
    return _gated(settings, "ifco")


def _gru(settings: Settings) -> Facts:
    # Keras below 2.1 knows no other form than the one that resets before the product.
    return {**_gated(settings, _GATES["GRU"]), "reset_after": bool(settings.get("reset_after", False))}


def _attention(settings: Settings) -> Facts:
    facts = _chosen(settings, "num_heads", "num_query_heads", "num_key_value_heads", "head_dim")
    if "key_dim" in settings:
        facts |= {"head_dim": settings["key_dim"], "value_dim": settings.get("value_dim")}
    return facts


def _einsum(settings: Settings) -> Facts:
    axes = _einsum_axes(settings.get("equation"))
    return {"kernel_axes": axes} if axes else {}


_OF_CLASS: dict[str, Callable[[Settings], Facts]] = {
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "RMSNormalization"), _norm),
    **dict.fromkeys(("LSTM", "ConvLSTM1D", "ConvLSTM2D"), _lstm),
    "GRU": _gru,
    "EinsumDense": _einsum,
    "Bidirectional": lambda settings: {"merge": settings.get("merge_mode", "concat")},
    **dict.fromkeys(ATTENTION, _attention),
}


def _rectified(settings: Settings) -> str:
    """ReLU is three functions."""
    slope, most = settings.get("negative_slope") or 0, settings.get("max_value")
    if settings.get("threshold"):
        return "relu with a threshold"
    if slope:
        return f"leaky_relu({slope:g})" if most is None else "leaky relu with a maximum"
    return "relu" if most is None else f"relu{most:g}"


_ACTIVATION_LAYERS: dict[str, Callable[[Settings], str]] = {
    "ReLU": _rectified,
    "LeakyReLU": lambda settings: f"leaky_relu({settings.get('negative_slope', settings.get('alpha', 0.3)):g})",
    "ELU": lambda settings: f"elu({settings.get('alpha', 1.0):g})",
}


def _einsum_axes(equation: object) -> list[str] | None:
    """The axes of a kernel of two, "in" the one that is summed over; None for kernels of more axes, or of a batch."""
    text = equation.replace(" ", "") if isinstance(equation, str) else ""
    parts = re.fullmatch(r"([^,>-]*),([^,>-]*)->([^,>-]*)", text)
    if parts is None or len(parts[2]) != 2:
        return None
    axes = ["in" if axis in parts[1] and axis not in parts[3] else "out" for axis in parts[2]]
    return axes if sorted(axes) == ["in", "out"] else None


def _pooling(settings: Settings) -> Facts:
    """Window, strides and padding; strides are the window's size unless the file records others."""
    rank = 1 if "pool_length" in settings or isinstance(settings.get("pool_size"), int) else 2
    size = settings.get("pool_size", settings.get("pool_length", 2))
    window = list(size) if isinstance(size, list) else [size] * rank
    strides = settings.get("strides", settings.get("stride"))
    steps = window if strides is None else strides if isinstance(strides, list) else [strides]
    padding = settings.get("padding", settings.get("border_mode", "valid"))
    return {"pool_size": window, "strides": steps, "padding": padding}


_PER_AXIS: dict[str, Attribute] = {
    "strides": "strides", "dilation_rate": "dilation", "output_padding": "output_padding",
}  # fmt: skip


def _convolution(settings: Settings) -> Facts:
    """Strides, padding and the like, in lists with one number for each axis."""
    facts: Facts = {"padding": settings.get("padding", settings.get("border_mode", "valid"))}
    for key, attribute in _PER_AXIS.items():
        if settings.get(key) is not None:
            facts[attribute] = settings[key] if isinstance(settings[key], list) else [settings[key]]
    facts["groups"] = settings.get("groups", 1)
    given = {key: value for key, value in settings.items() if value is not None}
    return facts | _chosen(given, "depth_multiplier", "data_format")


def _activation(value: object) -> str:
    """An activation's name; of a custom function or object its class name."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        return str(inner if isinstance(inner, str) else value.get("class_name"))
    return "linear" if value is None else str(value)


# --- facts that come from the layers before --------------------------------------------------------------------------

# Layers that keep every number at its position, so that what lies before them shapes what lies behind.
_TRANSPARENT = {
    "Activation", "ActivityRegularization", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise",
    "GaussianDropout", "AlphaDropout", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "BatchNormalization",
    "LayerNormalization", "Rescaling",
}  # fmt: skip
_KEEPS_CHANNELS = _TRANSPARENT | {
    "MaxPooling2D", "AveragePooling2D", "MaxPooling1D", "AveragePooling1D", "ZeroPadding2D", "ZeroPadding1D",
    "Cropping2D", "UpSampling2D", "UpSampling1D", "DepthwiseConv2D", "Permute", "Add",
}  # fmt: skip


def _from_neighbours(layer: KerasLayer, model: KerasLayer) -> Facts:
    """What the layers before this one determine: explicit padding, a mask, and the order of a flattened map."""
    kind = layer.class_name
    if kind in _MASKED:
        return {"masked": True} if any(map(_makes_mask, _masking(layer, model))) else {}
    if kind in ("Conv2D", "Conv1D", "DepthwiseConv2D", "SeparableConv2D") and layer.settings.get("padding") == "valid":
        before = _before(layer, model)
        if before is not None and before.class_name in ("ZeroPadding1D", "ZeroPadding2D"):
            return _explicit_padding(before, rank=1 if kind == "Conv1D" else 2)
    if kind in ("Dense", "BatchNormalization", "LayerNormalization"):
        before = next((other for other in _upstream(layer, model) if other.class_name not in _TRANSPARENT), None)
        if before is not None and before.class_name == "Flatten":
            return _flattened(before, model)
    return {}


# What skips the steps that a mask leaves out, and what a mask does not pass.
_MASKED = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", *ATTENTION)
_ENDS_MASK = re.compile(r"(?:Separable|Depthwise)?Conv.*|.*Pooling.*|Flatten|Reshape|Permute|Lambda")


def _masking(layer: KerasLayer, model: KerasLayer) -> Iterator[KerasLayer]:
    """The layers whose mask may reach this one; Keras 3 lists the mask behind the map that it belongs to."""
    for _ in model.children:
        before = model.child(layer.inputs[0]) if layer.inputs else None
        if before is None or _ENDS_MASK.fullmatch(before.class_name):
            return
        yield before
        layer = before


def _makes_mask(layer: KerasLayer) -> bool:
    return layer.class_name == "Masking" or (layer.class_name == "Embedding" and bool(layer.settings.get("mask_zero")))


def _before(layer: KerasLayer, model: KerasLayer) -> KerasLayer | None:
    """The layer that feeds this one, when there is exactly one."""
    return model.child(layer.inputs[0]) if len(layer.inputs) == 1 else None


def _upstream(layer: KerasLayer, model: KerasLayer) -> Iterator[KerasLayer]:
    """The layers before this one, the nearest first, as long as each has a single one before it; a ring ends."""
    before = _before(layer, model)
    for _ in model.children:
        if before is None:
            return
        yield before
        before = _before(before, model)


def _explicit_padding(padding: KerasLayer, *, rank: int) -> Facts:
    """The zeros that a layer of their own adds before a convolution without padding."""
    setting = padding.settings.get("padding", 1)
    per_axis = [setting] * rank if isinstance(setting, int) else list(setting)
    if rank == 1 and len(per_axis) == 2:
        per_axis = [per_axis]
    pairs = [[sides, sides] if isinstance(sides, int) else list(sides) for sides in per_axis]
    return {"padding": pairs, "padding_layer": padding.path}


def _flattened(flatten: KerasLayer, model: KerasLayer) -> Facts:
    """In which order the axes of a feature map were flattened, and its sizes, as far as the file records them."""
    shape = flatten.shape
    if shape is not None and len(shape) < 2:
        return {}
    maps = _map_layers(flatten, model)
    axes = _map_axes(flatten, maps)
    for layer in reversed(maps):
        if layer.class_name == "Permute":
            axes = _permuted(axes, layer.settings.get("dims"))
    sizes = list(shape) if shape is not None and len(shape) == len(axes) and all(shape) else []
    if flatten.settings.get("data_format") == "channels_first":  # Keras moves its first axis last, then flattens
        axes, sizes = axes[1:] + axes[:1], sizes[1:] + sizes[:1]
    channels = sizes[axes.index("c")] if sizes and "c" in axes else next(filter(None, map(_channels, maps)), None)
    return flatten_facts(axes, sizes, channels)


def _map_layers(flatten: KerasLayer, model: KerasLayer) -> list[KerasLayer]:
    """The layers before a flatten, the nearest first, up to the first one that makes new channels."""
    layers = []
    for layer in _upstream(flatten, model):
        layers.append(layer)
        if layer.class_name not in _KEEPS_CHANNELS:
            break
    return layers


def _map_axes(flatten: KerasLayer, maps: list[KerasLayer]) -> list[str]:
    """The axes of the map, as the layer that makes it gives them."""
    rank = len(flatten.shape) - 1 if flatten.shape is not None else _rank(maps)
    spatial = SPATIAL.get(rank, [])
    formats = [layer.settings["data_format"] for layer in maps if "data_format" in layer.settings]
    # Without a layer that records it, Keras' own argument says where the channels are.
    held = formats[0] if formats else flatten.settings.get("data_format")
    return ["c", *spatial] if held == "channels_first" else [*spatial, "c"]


def _rank(maps: list[KerasLayer]) -> int:
    """Spatial axes of the map, from the class names ("MaxPooling1D") or the length of a permutation."""
    named = (re.search(r"([123])D", layer.class_name) for layer in maps)
    ranks = [int(match[1]) for match in named if match]
    ranks += [len(layer.settings.get("dims") or ()) - 1 for layer in maps if layer.class_name == "Permute"]
    return ranks[0] if ranks else 2


def _permuted(axes: list[str], dims: object) -> list[str]:
    """The axes after Keras' Permute, whose numbers begin at 1; ["?"] for numbers that do not fit."""
    if not isinstance(dims, list) or sorted(map(str, dims)) != [str(number) for number in range(1, len(axes) + 1)]:
        return ["?"]
    return [axes[int(number) - 1] for number in dims]


def _channels(layer: KerasLayer) -> int | None:
    """How many channels the layer gives, where its settings record it."""
    if layer.children:
        return _channels(layer.children[-1])
    filters = layer.settings.get("filters", layer.settings.get("nb_filter"))
    return filters if isinstance(filters, int) else None
