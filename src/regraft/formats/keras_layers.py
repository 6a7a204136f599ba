"""What Keras' layers hold and ask for: the names of their weights in order, and the facts that their settings tell."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from regraft.arrays import Requirement
from regraft.formats.keras_config import Layer

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
}
_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
_FLOAT8 = tuple(f"{name}_{what}" for name in ("inputs", "kernel", "outputs_grad") for what in ("scale", "amax_history"))
ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention")
_POOLS = re.compile(r"(Max|Average)Pool(?:ing)?[123]D$")
_GATES = {"LSTM": "ifco", "ConvLSTM1D": "ifco", "ConvLSTM2D": "ifco", "GRU": "zrh"}


def leaf_names(
    class_name: str, settings: Mapping[str, Any] | None, count: int, *, is_coded: bool = False
) -> tuple[str, ...]:
    """The names of a layer's `count` weights, in order; their numbers where the file leaves a doubt.

    settings  the layer's own, None when the file has no description: then a batch-norm of three weights may lack
              its scale or its center, and the one that it has is called "gamma_or_beta"
    is_coded  whether the first weight holds integers: then scales stand behind the weights
    """
    names = WEIGHTS.get(class_name, ())
    extra = _extra_names(names, count, is_coded=is_coded)
    if extra:
        return (*names[: count - len(extra)], *extra)
    if settings is not None:
        names = tuple(name for name in names if settings.get(_SWITCHES.get(name, ""), True) is not False)
    elif names[-1:] == ("bias",) and count == len(names) - 1:
        names = names[:-1]
    elif names[:2] == ("gamma", "beta") and 0 < len(names) - count <= 2:
        names = (("gamma_or_beta",) if len(names) - count == 1 else ()) + names[2:]
    return names if len(names) == count else tuple(str(index) for index in range(count))


def _extra_names(names: tuple[str, ...], count: int, *, is_coded: bool) -> tuple[str, ...]:
    """What `quantize` puts behind a layer's weights, of which only a bias may be off; () for a plain layer."""
    if names not in (("kernel", "bias"), ("embeddings",)):
        return ()
    scale = f"{names[0]}_scale"
    coded: tuple[tuple[str, ...], ...] = ((scale,), (scale, f"{names[0]}_zero", "g_idx"))
    found = coded if is_coded else (_FLOAT8,)
    return next((extra for extra in found if count - len(extra) in (1, len(names))), ())


def class_by_weights(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The class that a layer's weights leave no doubt of, by their names and shapes; else "".

    A kernel of rank 4 alone is a Conv2D's, a Conv2DTranspose's or a Keras 3 DepthwiseConv2D's: "".
    """
    if "moving_mean" in shapes:
        return "BatchNormalization"
    if "recurrent_kernel" in shapes and len(shapes["recurrent_kernel"]) == 2:
        units, width = shapes["recurrent_kernel"]
        return {4 * units: "LSTM", 3 * units: "GRU", units: "SimpleRNN"}.get(width, "")
    if "pointwise_kernel" in shapes:
        return {4: "SeparableConv2D", 3: "SeparableConv1D"}.get(len(shapes["pointwise_kernel"]), "")
    if "depthwise_kernel" in shapes:
        return "DepthwiseConv2D"
    if {"query/kernel", "key/kernel", "value/kernel"} <= shapes.keys():
        return "MultiHeadAttention"
    if "kernel" in shapes and len(shapes["kernel"]) == 2:
        return "Dense"
    return "Embedding" if "embeddings" in shapes else "PReLU" if "alpha" in shapes else ""


def facts_by_weights(layer_type: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    """What a layer's weights alone tell: the GRU whose reset comes after the product has two rows of biases."""
    facts: dict[str, object] = {"gate_order": _GATES[layer_type]} if layer_type in _GATES else {}
    if layer_type == "GRU" and "bias" in shapes:
        facts["reset_after"] = len(shapes["bias"]) == 2
    return facts


def requirements(root: Layer) -> Iterator[Requirement]:
    """The facts of every layer below `root`, in the network's order."""
    for model in root.walk():
        for layer in model.children:
            facts = {**_facts(layer), **_from_neighbours(layer, model)}
            if model.class_name == "Bidirectional":
                facts.pop("go_backwards", None)  # its second layer does, as the other direction of torch's layer
            yield from (Requirement(layer.path, attribute, value) for attribute, value in facts.items())


def _facts(layer: Layer) -> dict[str, object]:
    """What the layer's own settings say."""
    told, kind = layer.settings, layer.class_name
    facts: dict[str, object] = {}
    if "Conv" in kind:
        facts |= _convolution(told)
    if pool := _POOLS.match(kind):
        facts |= {"pool": pool[1].lower()} | _pooling(told)
    if kind in ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization"):
        facts["eps"] = float(told.get("epsilon", 1e-3))
        facts |= {key: told[key] for key in ("axis", "center", "scale", "groups") if key in told}
    if kind == "BatchNormalization":
        facts["momentum"] = float(told.get("momentum", 0.99))
    if kind in _GATES:
        facts["gate_order"] = _GATES[kind]
        facts |= {key: told[key] for key in ("go_backwards", "return_sequences") if key in told}
        facts["recurrent_activation"] = _activation(told.get("recurrent_activation", "hard_sigmoid"))
    if kind == "GRU":
        facts["reset_after"] = bool(told.get("reset_after", False))  # Keras below 2.1 knows no other form
    if kind == "EinsumDense" and (axes := _einsum_axes(told.get("equation"))):
        facts["kernel_axes"] = axes
    if kind == "Bidirectional":
        facts["merge"] = told.get("merge_mode", "concat")
    if kind in ATTENTION:
        facts |= {
            key: told[key] for key in ("num_heads", "num_query_heads", "num_key_value_heads", "head_dim") if key in told
        }
        facts |= {"head_dim": told["key_dim"], "value_dim": told.get("value_dim")} if "key_dim" in told else {}
    if "use_bias" in told:
        facts["use_bias"] = bool(told["use_bias"])
    if kind.startswith("ZeroPadding") and "padding" in told:
        facts["pad"] = _explicit_padding(layer, rank=int(kind[-2]))["padding"]
    if "activation" in told:
        facts["activation"] = _activation(told["activation"])
    elif kind in _ACTIVATION_LAYERS:
        facts["activation"] = _ACTIVATION_LAYERS[kind](told)
    return facts


def _rectified(told: Mapping[str, Any]) -> str:
    """ReLU is three functions."""
    slope, most = told.get("negative_slope") or 0, told.get("max_value")
    if told.get("threshold"):
        return "relu with a threshold"
    if slope:
        return f"leaky_relu({slope:g})" if most is None else "leaky relu with a maximum"
    return "relu" if most is None else f"relu{most:g}"


_ACTIVATION_LAYERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "ReLU": _rectified,
    "LeakyReLU": lambda told: f"leaky_relu({told.get('negative_slope', told.get('alpha', 0.3)):g})",
    "ELU": lambda told: f"elu({told.get('alpha', 1.0):g})",
    "Softmax": lambda told: "softmax",
}


def _einsum_axes(equation: object) -> list[str] | None:
    """The axes of a kernel of two, "in" the one that is summed over; None for kernels of more axes, or of a batch."""
    text = equation.replace(" ", "") if isinstance(equation, str) else ""
    parts = re.fullmatch(r"([^,>-]*),([^,>-]*)->([^,>-]*)", text)
    if parts is None or len(parts[2]) != 2:
        return None
    axes = ["in" if axis in parts[1] and axis not in parts[3] else "out" for axis in parts[2]]
    return axes if sorted(axes) == ["in", "out"] else None


def _pooling(told: Mapping[str, Any]) -> dict[str, object]:
    """Window, strides and padding; strides are the window's size unless the file tells others."""
    rank = 1 if "pool_length" in told or isinstance(told.get("pool_size"), int) else 2
    size = told.get("pool_size", told.get("pool_length", 2))
    window = list(size) if isinstance(size, list) else [size] * rank
    strides = told.get("strides", told.get("stride"))
    steps = window if strides is None else strides if isinstance(strides, list) else [strides]
    return {"pool_size": window, "strides": steps, "padding": told.get("padding", told.get("border_mode", "valid"))}


def _convolution(told: Mapping[str, Any]) -> dict[str, object]:
    """Strides, padding and their kin, in lists with one number for each axis."""
    facts: dict[str, object] = {"padding": told.get("padding", told.get("border_mode", "valid"))}
    for key, attribute in (("strides", "strides"), ("dilation_rate", "dilation"), ("output_padding", "output_padding")):
        if told.get(key) is not None:
            facts[attribute] = told[key] if isinstance(told[key], list) else [told[key]]
    facts["groups"] = told.get("groups", 1)
    facts |= {key: told[key] for key in ("depth_multiplier", "data_format") if told.get(key) is not None}
    return facts


def _activation(told: object) -> str:
    """An activation's name; an own function's or object's class name."""
    if isinstance(told, Mapping):
        inner = told.get("config")
        return str(inner if isinstance(inner, str) else told.get("class_name"))
    return "linear" if told is None else str(told)


# Layers that keep every number at its place, so that what lies before them shapes what lies behind.
_TRANSPARENT = {
    "Activation", "ActivityRegularization", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise",
    "GaussianDropout", "AlphaDropout", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "BatchNormalization",
    "LayerNormalization", "Rescaling",
}  # fmt: skip
_KEEPS_CHANNELS = _TRANSPARENT | {
    "MaxPooling2D", "AveragePooling2D", "MaxPooling1D", "AveragePooling1D", "ZeroPadding2D", "ZeroPadding1D",
    "Cropping2D", "UpSampling2D", "UpSampling1D", "DepthwiseConv2D", "Permute", "Add",
}  # fmt: skip


def _from_neighbours(layer: Layer, model: Layer) -> dict[str, object]:
    """What the layers before this one say of its weights: explicit padding, and the order of a flattened map."""
    if (
        layer.class_name in ("Conv2D", "Conv1D", "DepthwiseConv2D", "SeparableConv2D")
        and layer.settings.get("padding") == "valid"
    ):
        before = _before(layer, model)
        if before is not None and before.class_name in ("ZeroPadding1D", "ZeroPadding2D"):
            return _explicit_padding(before, rank=1 if layer.class_name == "Conv1D" else 2)
    if layer.class_name in ("Dense", "BatchNormalization", "LayerNormalization"):
        before = next((one for one in _upstream(layer, model) if one.class_name not in _TRANSPARENT), None)
        if before is not None and before.class_name == "Flatten":
            return _flattened(before, model)
    return {}


def _before(layer: Layer, model: Layer) -> Layer | None:
    """The layer that feeds this one, when there is exactly one."""
    return model.child(layer.inputs[0]) if len(layer.inputs) == 1 else None


def _upstream(layer: Layer, model: Layer) -> Iterator[Layer]:
    """The layers before this one, the nearest first, as long as each has one alone before it; a ring ends."""
    before = _before(layer, model)
    for _ in model.children:
        if before is None:
            return
        yield before
        before = _before(before, model)


def _explicit_padding(padding: Layer, *, rank: int) -> dict[str, object]:
    """The zeros that a layer of their own adds before a convolution without padding."""
    told = padding.settings.get("padding", 1)
    per_axis = [told] * rank if isinstance(told, int) else list(told)
    if rank == 1 and len(per_axis) == 2:
        per_axis = [per_axis]
    pairs = [[one, one] if isinstance(one, int) else list(one) for one in per_axis]
    return {"padding": pairs, "padding_layer": padding.path}


def _flattened(flatten: Layer, model: Layer) -> dict[str, object]:
    """In which order a feature map was flattened, and over how many channels, as far as the file tells it."""
    if flatten.shape is not None and len(flatten.shape) < 2:
        return {}
    moves = flatten.settings.get("data_format") == "channels_first"  # then Keras moves the channels last, and flattens
    is_first = _holds_channels_first(flatten, model)
    if is_first and not moves:
        return {"flatten_order": "channels_first"}
    if moves and is_first is False:
        return {"flatten_order": "permuted"}
    channels = flatten.shape[0 if moves else -1] if flatten.shape is not None else None
    for before in _upstream(flatten, model):
        if channels is not None:
            break
        if before.class_name == "Permute" and list(before.settings.get("dims", ()))[-1:] != [
            len(before.settings.get("dims", ()))
        ]:
            return {"flatten_order": "permuted"}
        channels = _channels(before)
        if before.class_name not in _KEEPS_CHANNELS:
            break
    return {"flatten_order": "channels_last"} | ({"flatten_channels": channels} if channels else {})


def _holds_channels_first(flatten: Layer, model: Layer) -> bool | None:
    """Whether the map before the flatten has its channels first; None when no layer before it says."""
    told = (one.settings["data_format"] for one in _upstream(flatten, model) if "data_format" in one.settings)
    found = next(told, None)
    return found == "channels_first" if found is not None else None


def _channels(layer: Layer) -> int | None:
    """How many channels the layer gives, where its settings say it."""
    if layer.children:
        return _channels(layer.children[-1])
    filters = layer.settings.get("filters", layer.settings.get("nb_filter"))
    return filters if isinstance(filters, int) else None
