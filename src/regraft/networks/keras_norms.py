"""Keras' norms, embeddings, preprocessing and activations with arrays, as layers and steps."""

from typing import Any

from regraft.networks.keras_activations import ACTIVATION_LAYERS, activated
from regraft.networks.keras_builder import LayerCall, RefusedError, number
from regraft.networks.network import Array, Literal
from regraft.operations.moves import Reshape


def _affine(call: LayerCall, count: int | None = None) -> dict[str, Array]:
    """gamma and beta as weight and bias; what a norm that has only the other leaves out is 1 or 0."""
    has = {"weight": call.has("gamma"), "bias": call.has("beta")}
    if not any(has.values()):
        return {} if count is None else {"weight": call.filled(1.0, count), "bias": call.filled(0.0, count)}
    size = call.shape("gamma" if has["weight"] else "beta")[-1]
    return {
        "weight": call.array("gamma") if has["weight"] else call.filled(1.0, size),
        "bias": call.array("beta") if has["bias"] else call.filled(0.0, size),
    }


def _axis(call: LayerCall) -> int:
    axis = call.settings.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) != 1:
        raise RefusedError(f"it normalises over the axes {axes}")
    return int(axes[0])


def batch_norm(call: LayerCall) -> str:
    """BatchNormalization."""
    size = call.shape("moving_mean")[0]
    arrays = {
        **_affine(call, size),
        "running_mean": call.array("moving_mean"),
        "running_var": call.array("moving_variance"),
    }
    momentum = round(1 - float(call.settings.get("momentum", 0.99)), 10)
    eps = float(call.settings.get("epsilon", 1e-3))
    return call.builder.layer("batch_norm", call.path, [call.x], arrays, eps=eps, momentum=momentum, axis=_axis(call))


def layer_norm(call: LayerCall) -> str:
    """LayerNormalization over the last axis."""
    if call.settings.get("rms_scaling"):
        raise RefusedError("rms_scaling")
    axes, eps = (_axis(call),), float(call.settings.get("epsilon", 1e-3))
    return call.builder.layer("layer_norm", call.path, [call.x], _affine(call), eps=eps, axes=axes)


def group_norm(call: LayerCall) -> str:
    """GroupNormalization; of as many groups as channels with -1."""
    groups, arrays = int(call.settings.get("groups", 32)), _affine(call)
    if groups == -1:
        if not arrays:
            raise RefusedError("as many groups as channels, without scale and center")
        size = call.shape("gamma" if call.has("gamma") else "beta")[0]
        groups = size
    eps = float(call.settings.get("epsilon", 1e-3))
    return call.builder.layer("group_norm", call.path, [call.x], arrays, groups=groups, eps=eps, axis=_axis(call))


def rms_norm(call: LayerCall) -> str:
    """RMSNormalization over the last axis."""
    axes, eps = (_axis(call),), float(call.settings.get("epsilon", 1e-6))
    return call.builder.layer("rms_norm", call.path, [call.x], {"weight": call.array("scale")}, eps=eps, axes=axes)


def unit_norm(call: LayerCall) -> str:
    """UnitNormalization."""
    return call.step("l2_normalize", call.x, axis=_axis(call), eps=1e-12)


def embedding(call: LayerCall) -> str:
    """Embedding."""
    if call.settings.get("mask_zero"):
        raise RefusedError("mask_zero: zeros are masked in the layers behind it")
    return call.builder.layer("embedding", call.path, [call.x], {"weight": call.array("embeddings")})


def rescaling(call: LayerCall) -> str:
    """Rescaling."""
    x = call.x
    scale, offset = call.settings.get("scale", 1.0), call.settings.get("offset", 0.0)
    if scale != 1:
        x = call.step("mul", x, _constant(scale))
    return x if offset in (0, [0.0]) else call.step("add", x, _constant(offset))


def _constant(value: Any) -> Literal:
    return Literal(tuple(map(float, value))) if isinstance(value, list) else number(float(value))


def normalization(call: LayerCall) -> str:
    """Normalization over the last axis: its mean and variance are arrays of the file, or settings."""
    axis = call.settings.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if axes not in ([-1], [3], []):
        raise RefusedError(f"its axis {axis}, where only the last one is supported")
    if call.settings.get("invert"):
        raise RefusedError("invert")
    if call.has("mean"):
        mean, variance = (_fixed(call, leaf) for leaf in ("mean", "variance"))
        x = call.step("sub", call.x, mean)
        return call.step("div", x, call.step("clamp", call.step("sqrt", variance), min=1e-7))
    given, spread = call.settings.get("mean"), call.settings.get("variance")
    if given is None or spread is None:
        raise RefusedError("the file holds neither its mean nor its variance")
    deviation = [max(float(value) ** 0.5, 1e-7) for value in _listed(spread)]
    x = call.step("sub", call.x, Literal(tuple(map(float, _listed(given)))))
    return call.step("div", x, Literal(tuple(deviation)))


def _listed(value: object) -> list[Any]:
    if isinstance(value, dict):  # an array, as Keras writes it
        value = (value.get("config") or {}).get("value")
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return value if isinstance(value, list) else [value]


def _fixed(call: LayerCall, leaf: str) -> Array:
    """A statistic, which does not train."""
    shape = call.shape(leaf)
    array = call.array(leaf, *([Reshape((shape[-1],))] if len(shape) > 1 else []))
    return Array(array.sources, array.operations, is_fixed=True)


def prelu(call: LayerCall) -> str:
    """PReLU with a slope for each channel as a layer, with more slopes as a step."""
    shape = call.shape("alpha")
    if all(size == 1 for size in shape[:-1]):
        operations = [Reshape((shape[-1],))] if len(shape) > 1 else []
        arrays = {"weight": call.array("alpha", *operations)}
        return call.builder.layer("prelu", call.path, [call.x], arrays, axis=-1)
    negative = call.step("minimum", call.x, number(0.0))
    return call.step("add", call.step("relu", call.x), call.step("mul", negative, call.array("alpha")))


def layer_scale(call: LayerCall) -> str:
    """LayerScale of keras.applications: a factor for each channel."""
    leaves = call.leaves
    if len(leaves) != 1:
        raise RefusedError(f"it has {len(leaves)} arrays, expected one")
    return call.step("mul", call.x, call.array(leaves[0]))


def custom_scale(call: LayerCall) -> str:
    """CustomScaleLayer of InceptionResNetV2: x + scale · y."""
    x, y = call.inputs
    return call.step("add", x, call.step("mul", y, number(float(call.settings["scale"]))))


def activation(call: LayerCall) -> str:
    """Activation, and the layers that are activations."""
    if call.layer.class_name in ACTIVATION_LAYERS:
        return ACTIVATION_LAYERS[call.layer.class_name](call, call.x, call.settings)
    return activated(call, call.x, call.settings.get("activation"))


def dropout(call: LayerCall) -> str:
    """Dropout and its kin; only the plain one is torch's own function."""
    rate = float(call.settings.get("rate", call.settings.get("p", 0.5)))
    return call.builder.layer("dropout", call.path, [call.x], {}, p=rate)


def training_only(call: LayerCall) -> str:
    """Layers that do nothing but in training, for which torch has none: left out, with a note."""
    call.note(f"{call.layer.class_name} acts only in training and is left out.")
    return call.x
