"""Settings that are no weights: what the source requires, in torch's terms, compared with the module's own."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isclose
from typing import Any

from regraft.arrays import Requirement
from regraft.errors import Advice
from regraft.foundation.patterns import exact_pattern
from regraft.operations.joins import Subtract
from regraft.plans.graphs import unstepped
from regraft.plans.layers import Layer, layers_by_array
from regraft.plans.module_graph import Traced
from regraft.plans.rows import RequirementRow, Row, Setting
from regraft.plans.sources import Sources
from regraft.plans.steps import Unknown, ZeroPad

# Frameworks that keep `momentum` of the old statistics; torch takes `momentum` of the new ones.
KEEPS_OLD = frozenset({"tensorflow", "flax", "onnx", "mxnet", "caffe", "tflite"})
# Settings that no array depends on, so that `apply_plan` may set them: of any module, and of torch's own convolutions.
_NUMBERS = frozenset({"eps", "momentum"})
_OF_CONVOLUTIONS = frozenset({"stride", "dilation", "padding"})
_OURS = {"strides": "stride", "dilation_rate": "dilation", "dilations": "dilation", "pads": "padding"}
# The eps that the framework's own layers have when the user chose none; only mentioned, nothing depends on it.
DEFAULT_EPS = {("tensorflow", "batch_norm"): 1e-3, ("tensorflow", "norm"): 1e-3, ("flax", "norm"): 1e-6}
_NORM_TYPES = ("", "BatchNormalization", "BatchNorm")
_CONVOLUTIONS = ("conv", "depthwise")

Takers = Mapping[str, Sequence[Layer]]


def with_own_pads(layers: Sequence[Layer], ours: Traced | None) -> tuple[Layer, ...]:
    """The layers, where a convolution behind a padding of the model's own has both together as its setting.

    `apply_plan` cannot change such a padding: the module or call before the layer would stay.
    """
    return tuple(_with_own_pad(layer, ours) if ours is not None else layer for layer in layers)


def _with_own_pad(layer: Layer, ours: Traced) -> Layer:
    steps, _ = unstepped(ours.inputs.get(layer.name, ""))
    before = steps[0].function if steps and layer.kind in _CONVOLUTIONS else None
    own = layer.settings.get("padding", 0)
    if not isinstance(before, ZeroPad) or layer.kernel is None or not isinstance(own, int | tuple):
        return replace(layer, has_pad=isinstance(before, Unknown | ZeroPad))
    sides = zip(before.sides, _pairs(own, len(layer.kernel.shape) - 2), strict=False)
    both = tuple((low + first, high + last) for (low, high), (first, last) in sides)
    return replace(layer, settings={**layer.settings, "padding": _padding(both)}, has_pad=True)


def takers_of(rows: Sequence[Row], layers: Sequence[Layer], sources: Sources) -> Takers:
    """Source layer → the layers of ours that take its arrays."""
    owners = layers_by_array(layers)
    takers: dict[str, dict[str, Layer]] = {}
    # Nothing is known of a layer's settings while several sources fit it, and each pair of them would be a row.
    for row in rows:
        if row.target is not None and row.status != "ambiguous":
            layer = owners[row.target]
            for source in _own_sources(row, layer, sources):
                for source_layer in sources.layers_around(source):
                    takers.setdefault(source_layer, {}).setdefault(layer.name, layer)
    return {source_layer: list(several.values()) for source_layer, several in takers.items()}


def _own_sources(row: Row, layer: Layer, sources: Sources) -> list[str]:
    """The sources of the row's own layer: a bias folded into a norm belongs to another, whose settings are not its."""
    is_folded = any(isinstance(operation, Subtract) for operation in row.operations)
    own = row.sources[:1] if is_folded else row.sources
    if layer.kind != "batch_norm":
        return list(own)
    return [source for source in own if sources.infos[source].layer_type in _NORM_TYPES]


def compare_settings(
    requirements: Sequence[Requirement], takers: Takers, layout: str | None, types: Mapping[str, str] | None = None
) -> tuple[RequirementRow, ...]:
    """One row for each fact that a module can show, met or different; and for each norm whose eps is not recorded.

    types   source layer → the source framework's word for it
    """
    strides = {each.layer: each.value for each in requirements if each.attribute == "strides"}
    rows = _by_name(
        _compare(requirement, layer, layout, strides.get(requirement.layer))
        for requirement in requirements
        for layer in takers.get(requirement.layer, ())
    )
    pairs = [(source, layer) for source, layers in takers.items() for layer in layers]
    norms = _by_name(_compare_norms(layer, source, types or {}) for source, layer in pairs)
    assumed = _by_name(_assumed_eps(layer, source, layout) for source, layer in pairs)
    return tuple({**rows, **assumed, **rows, **norms}.values())  # first what is known, which counts


def _by_name(rows: Iterable[RequirementRow | None]) -> dict[str, RequirementRow]:
    return {row.name: row for row in rows if row is not None}


def with_choices(
    rows: Sequence[RequirementRow], accepted: Collection[str], adopted: Collection[str]
) -> tuple[RequirementRow, ...]:
    """The rows after the user's choices: what differs is kept as the module has it, or taken over where it can be.

    accepted, adopted   names "layer.attribute"
    """
    return tuple(_with_choice(row, accepted, adopted) if row.required != row.found else row for row in rows)


def _with_choice(row: RequirementRow, accepted: Collection[str], adopted: Collection[str]) -> RequirementRow:
    if row.name in adopted and row.adoptable:
        return replace(row, status="adopted", note="apply_plan sets it", advice=())
    can_accept = row.attribute == "momentum" or any(advice.argument == "accept" for advice in row.advice)
    if row.name in accepted and can_accept:
        return replace(row, status="accepted", note="the model keeps its own", advice=())
    return row


def _compare(requirement: Requirement, layer: Layer, layout: str | None, strides: object) -> RequirementRow | None:
    """The row of one fact; None where the module cannot show it.

    strides   of the source layer, on which the zeros of its padding depend
    """
    attribute = _OURS.get(requirement.attribute, requirement.attribute)
    if attribute not in layer.settings or (attribute == "groups" and layer.kind == "depthwise"):
        return None  # a depthwise kernel's own axes decide its groups
    current = layer.settings[attribute]
    required = _in_our_terms(attribute, requirement.value, layer, layout)
    if required is None:
        return None
    row = RequirementRow(Setting(layer.name, attribute), required, current, "met", requirement.layer)
    if _same(required, current) or (attribute == "padding" and _pads_alike(required, current, layer, strides)):
        return row
    row = replace(row, adoptable=_is_adoptable(layer, attribute, required))
    if attribute == "momentum":  # it moves the statistics while training; what the model computes does not depend on it
        return replace(row, status="accepted", note="used in training only: adopt can set it")
    return replace(row, status="differs", note=_fix_by_hand(layer, row), advice=setting_advice(row))


def setting_advice(row: RequirementRow, *, keep: str = "keep the model's own settings") -> tuple[Advice, ...]:
    """Adopt it where apply_plan can, or accept what the model has."""
    patterns = [exact_pattern(row.name)]
    accept = Advice("accept", patterns, keep)
    return (Advice("adopt", patterns, "let apply_plan change the model"), accept) if row.adoptable else (accept,)


def _is_adoptable(layer: Layer, attribute: str, required: object) -> bool:
    if attribute in _NUMBERS:
        return True
    is_plain = layer.kind in _CONVOLUTIONS and layer.is_plain and "weight" in layer.arrays
    if not is_plain or attribute not in _OF_CONVOLUTIONS or (attribute == "padding" and layer.has_pad):
        return False
    return len(required) == len(layer.shape_of("weight")) - 2 if isinstance(required, tuple) else required != "unknown"


def _in_our_terms(attribute: str, value: object, layer: Layer, layout: str | None) -> object:
    """The value as torch would write it; None when the two cannot be compared."""
    if attribute == "momentum":
        return _momentum(value, layout)
    if attribute == "padding":
        return _padding(value)
    if attribute == "groups" and value == -1 and "weight" in layer.arrays:
        return layer.arrays["weight"].shape[0]  # Keras: a group for each channel
    current = layer.settings[attribute]
    if isinstance(current, tuple) and isinstance(value, int):
        return (value,) * len(current)
    return tuple(value) if isinstance(value, list) else value


def _momentum(value: object, layout: str | None) -> float | None:
    if not isinstance(value, (int, float)):
        return None
    return round(1.0 - value, 12) if layout in KEEPS_OLD else value


def _padding(value: object) -> object:
    """ "same" and "valid" as words and numbers; pairs of equal numbers as one number for each axis."""
    if isinstance(value, str):
        return 0 if value.lower() == "valid" else value.lower()
    if not isinstance(value, (list, tuple)):
        return value
    pairs = _pairs(tuple(tuple(side) if isinstance(side, list) else side for side in value), len(value))
    lows, highs = zip(*pairs, strict=True) if pairs else ((), ())
    return lows if lows == highs else pairs


def _pads_alike(required: object, current: object, layer: Layer, strides: object) -> bool:
    """Whether two forms of the padding mean the same zeros for every size of the input."""
    if layer.kind not in _CONVOLUTIONS or layer.kernel is None:
        return False
    kernel = layer.kernel.shape[2:]
    stride, dilation = (_each(layer.settings.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    wholes = [spread * (width - 1) for width, spread in zip(kernel, dilation, strict=True)]
    is_known = isinstance(strides, (list, tuple)) and len(strides) == len(kernel)
    theirs = tuple(strides) if is_known else stride  # type: ignore[arg-type]  # a list, as is_known says
    return _zeros(required, wholes, theirs) == _zeros(current, wholes, stride) is not None


def _zeros(padding: object, wholes: Sequence[int], stride: Sequence[int]) -> object:
    """(before, after) for each axis; None when they depend on the input's size.

    wholes   along each axis, what "same" adds at stride 1
    """
    if padding == "causal":
        return tuple((whole, 0) for whole in wholes)
    if padding in ("same", "same_lower"):
        is_fixed = all(step == 1 or whole <= 0 for step, whole in zip(stride, wholes, strict=True))
        return tuple(_halves(whole, low_first=padding == "same") for whole in wholes) if is_fixed else None
    return _pairs(padding, len(wholes)) if isinstance(padding, (int, tuple)) else None


def _halves(whole: int, *, low_first: bool) -> tuple[int, int]:
    low, high = whole // 2, whole - whole // 2
    return (low, high) if low_first else (high, low)


def _pairs(padding: int | tuple[object, ...], count: int) -> tuple[tuple[int, int], ...]:
    return tuple(side if isinstance(side, tuple) else (side, side) for side in _each(padding, count))


def _each(value: object, count: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * count


def _same(required: object, current: object) -> bool:
    if isinstance(required, float) and isinstance(current, (int, float)):
        return isclose(required, current, rel_tol=1e-6)
    if isinstance(current, tuple) and isinstance(required, int):
        return current == (required,) * len(current)
    return required == current


def _fix_by_hand(layer: Layer, row: RequirementRow) -> str:
    """What to write in the model itself."""
    attribute, required = row.attribute, row.required
    if attribute == "padding" and layer.kind in _CONVOLUTIONS:
        return f"Replace the layer by regraft.tf_layers.padded(model.{layer.name}, {required!r})."
    if row.adoptable:
        return f"Set model.{row.name} = {required!r}."
    if attribute == "padding" and layer.kind == "conv_transpose":
        return "Replace the layer by regraft.tf_layers.KerasConvTranspose2d."
    if attribute == "go_backwards":
        return "The source reads its steps from last to first: pass x.flip(1) to the layer."
    if attribute == "masked":
        return (
            "The source skips the steps that its mask leaves out (mask_zero, Masking): pass packed sequences "
            "(torch.nn.utils.rnn.pack_padded_sequence) or a key_padding_mask, then accept this."
        )
    if attribute == "reset_after" and not required:
        return "Replace the layer by regraft.tf_layers.ResetBeforeGRU, which takes the same arrays."
    return f"Build the layer with {attribute}={required!r}."


_NORMS = {"rms": "RMS norm", "layernorm": "layer norm", "group": "group norm", "instance": "instance norm"}


def _norm_of(class_name: str) -> str:
    """Which norm a class is, by its name; "" for others."""
    name = class_name.lower().replace("_", "")
    known = (norm for word, norm in _NORMS.items() if word in name)
    return next(known, "") if "norm" in name and "batch" not in name else ""


def _compare_norms(layer: Layer, source_layer: str, types: Mapping[str, str]) -> RequirementRow | None:
    """The row of a norm of another kind: their arrays have the same shapes. A group for each channel is an instance."""
    required, current = _norm_of(types.get(source_layer, "")), _norm_of(layer.class_name)
    if layer.kind != "norm" or not required or not current or required == current:
        return None
    if {required, current} == {"group norm", "instance norm"}:
        return None
    row = RequirementRow(Setting(layer.name, "norm"), required, current, "differs", source_layer)
    return replace(row, note=f"Build the layer as a {required}.", advice=setting_advice(row))


def _assumed_eps(layer: Layer, source_layer: str, layout: str | None) -> RequirementRow | None:
    """The row of a norm whose eps the file does not record; torch's own files need none."""
    if "eps" not in layer.settings or layer.kind not in ("batch_norm", "norm") or layout == "torch":
        return None
    usual = DEFAULT_EPS.get((layout or "", layer.kind))
    default = f"; {layout}'s own default is {usual:g}" if usual else ""
    current = layer.settings["eps"]
    note = f"the file does not record eps: the module's {current} is assumed{default}"
    return RequirementRow(Setting(layer.name, "eps"), current, current, "assumed", source_layer, note)
