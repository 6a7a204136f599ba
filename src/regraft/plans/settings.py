"""Settings that are no weights: what the source demands, in torch's terms, compared with the module that has them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import isclose
from typing import Any

from regraft.arrays import ArrayInfo, Requirement
from regraft.plans.layers import Layer, TargetArray
from regraft.plans.rows import RequirementRow

# Frameworks that keep `momentum` of the old statistics; torch takes `momentum` of the new ones.
KEEPS_OLD = frozenset({"tensorflow", "flax", "onnx", "mxnet", "caffe", "tflite"})
# Settings that no array depends on, so that `apply_plan` may set them: of any module, and of torch's own convolutions.
_NUMBERS = frozenset({"eps", "momentum"})
_OF_CONVOLUTIONS = frozenset({"stride", "dilation", "padding"})
_OURS = {
    "strides": "stride",
    "dilation_rate": "dilation",
    "dilations": "dilation",
    "pads": "padding",
}
# The eps that the framework's own layers have when nobody chose one; only told, never decided by.
DEFAULT_EPS = {("tensorflow", "batch_norm"): 1e-3, ("tensorflow", "norm"): 1e-3, ("flax", "norm"): 1e-6}


def compare_settings(
    requirements: Sequence[Requirement], layers: Mapping[str, Sequence[Layer]], layout: str | None
) -> tuple[RequirementRow, ...]:
    """One row for each fact that a module can show, met or different; and for each norm whose eps nobody told.

    layers   source layer → the layers of ours that take its arrays
    """
    rows: list[RequirementRow] = []
    steps = {one.layer: one.value for one in requirements if one.attribute == "strides"}
    for requirement in requirements:
        for layer in layers.get(requirement.layer, ()):
            rows.extend(_compare(requirement, layer, layout, steps.get(requirement.layer)))
    told = {row.layer for row in rows if row.attribute == "eps"}
    for source_layer, takers in layers.items():
        rows.extend(_assumed_eps(layer, source_layer, layout) for layer in takers if _tells_no_eps(layer, layout, told))
    return tuple({row.name: row for row in rows}.values())


def with_choices(
    rows: Sequence[RequirementRow], accepted: Collection[str], adopted: Collection[str]
) -> tuple[RequirementRow, ...]:
    """The rows after the user's choices: what differs is kept as the module has it, or taken over where it can be.

    accepted, adopted   names "layer.attribute"
    """
    return tuple(_with_choice(row, accepted, adopted) if row.required != row.found else row for row in rows)


def _with_choice(row: RequirementRow, accepted: Collection[str], adopted: Collection[str]) -> RequirementRow:
    if row.name in adopted and row.adoptable:
        return replace(row, status="adopted", note="apply_plan sets it")
    if row.name in accepted:
        return replace(row, status="accepted", note="the model keeps its own")
    return row


def _compare(requirement: Requirement, layer: Layer, layout: str | None, steps: object) -> list[RequirementRow]:
    """The row of one fact, where the module can show it.

    steps   the source layer's strides, on which the zeros of its padding depend
    """
    attribute = _OURS.get(requirement.attribute, requirement.attribute)
    if attribute not in layer.settings or (attribute == "groups" and layer.kind == "depthwise"):
        return []  # a depthwise kernel's own axes tell its groups
    found = layer.settings[attribute]
    required = _in_our_terms(attribute, requirement.value, found, layout)
    if attribute == "groups" and required == -1 and "weight" in layer.arrays:
        required = layer.arrays["weight"].shape[0]  # Keras: a group for each channel
    if required is None:
        return []
    met = _same(required, found) or (attribute == "padding" and _pads_alike(required, found, layer, steps))
    row = RequirementRow(layer.name, attribute, required, found, "met", requirement.layer)
    if met:
        return [row]
    row = replace(row, adoptable=_is_adoptable(layer, attribute, required))
    if attribute == "momentum":
        # It moves the statistics while training; what the model computes does not depend on it.
        name = _escaped(row.name)
        return [replace(row, status="accepted", note=f'only for training the statistics; adopt="{name}" takes it over')]
    return [replace(row, status="differs", note=_advice(layer, row))]


def _is_adoptable(layer: Layer, attribute: str, required: object) -> bool:
    if attribute in _NUMBERS:
        return True
    is_convolution = layer.kind in ("conv", "depthwise") and layer.is_plain
    fits = not isinstance(required, tuple) or len(required) == len(layer.arrays["weight"].shape) - 2
    return attribute in _OF_CONVOLUTIONS and is_convolution and fits and required != "unknown"


def _in_our_terms(attribute: str, value: object, found: object, layout: str | None) -> object:
    """The value as torch would write it; None when the two cannot be compared."""
    if attribute == "momentum":
        if not isinstance(value, (int, float)):
            return None
        return round(1.0 - value, 12) if layout in KEEPS_OLD else value
    if attribute == "padding":
        return _padding(value)
    if isinstance(found, tuple) and isinstance(value, int):
        return (value,) * len(found)
    return tuple(value) if isinstance(value, list) else value


def _padding(value: object) -> object:
    """ "same" and "valid" as words and numbers; pairs of equal numbers as one number for each axis."""
    if isinstance(value, str):
        return 0 if value.lower() == "valid" else value.lower()
    if not isinstance(value, (list, tuple)):
        return value
    pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else (pair, pair) for pair in value]
    return tuple(low for low, _ in pairs) if all(low == high for low, high in pairs) else tuple(pairs)


def _pads_alike(required: object, found: object, layer: Layer, steps: object) -> bool:
    """Whether two ways to write the padding mean the same zeros for every size of the input."""
    if layer.kind not in ("conv", "depthwise") or "weight" not in layer.arrays:
        return False
    kernel = layer.arrays["weight"].shape[2:]
    stride, dilation = (_each(layer.settings.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    told = tuple(steps) if isinstance(steps, (list, tuple)) and len(steps) == len(kernel) else stride
    return _zeros(required, kernel, told, dilation) == _zeros(found, kernel, stride, dilation) is not None


def _zeros(padding: object, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> object:
    """(before, after) for each axis; None when they depend on the input's size."""
    wholes = [spread * (width - 1) for width, spread in zip(kernel, dilation, strict=True)]
    if padding == "causal":
        return tuple((whole, 0) for whole in wholes)
    if padding in ("same", "same_lower"):
        if any(step > 1 and whole > 0 for step, whole in zip(stride, wholes, strict=True)):
            return None
        pairs = tuple((whole // 2, whole - whole // 2) for whole in wholes)
        return pairs if padding == "same" else tuple((high, low) for low, high in pairs)
    if isinstance(padding, (int, tuple)):
        return tuple(side if isinstance(side, tuple) else (side, side) for side in _each(padding, len(kernel)))
    return None


def _each(value: Any, count: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * count


def _same(required: object, found: object) -> bool:
    if isinstance(required, float) and isinstance(found, (int, float)):
        return isclose(required, found, rel_tol=1e-6)
    if isinstance(found, tuple) and isinstance(required, int):
        return found == (required,) * len(found)
    return required == found


def _advice(layer: Layer, row: RequirementRow) -> str:
    """The way out: adopted by the plan, done by hand, or kept."""
    attribute, required = row.attribute, row.required
    keep = f'accept="{_escaped(row.name)}" keeps the module\'s value.'
    take = f'adopt="{_escaped(row.name)}" lets apply_plan do it; {keep}'
    if attribute == "padding" and layer.kind in ("conv", "depthwise"):
        way = f"Put regraft.tf_layers.padded(model.{layer.name}, {required!r}) in its place"
        return f"{way}; or {take}" if row.adoptable else f"{way}; {keep}"
    if row.adoptable:
        return f"Set it in the model: model.{row.name} = {required!r}; or {take}"
    if attribute == "padding" and layer.kind == "conv_transpose":
        return f"Put regraft.tf_layers.KerasConvTranspose2d in its place; {keep}"
    if attribute == "go_backwards":
        return f"The source reads its steps from last to first: give it x.flip(1) in forward(), and {keep}"
    if attribute == "reset_after" and not required:
        return "Put regraft.tf_layers.ResetBeforeGRU in its place: it takes the same arrays."
    return f"Build the layer with {attribute}={required!r}; {keep}"


def _escaped(name: str) -> str:
    return name.replace(".", r"\.")


def _tells_no_eps(layer: Layer, layout: str | None, told: set[str]) -> bool:
    is_open = "eps" in layer.settings and layer.name not in told
    return is_open and layer.kind in ("batch_norm", "norm") and layout != "torch"


def _assumed_eps(layer: Layer, source_layer: str, layout: str | None) -> RequirementRow:
    usual = DEFAULT_EPS.get((layout or "", layer.kind))
    told = f"; {layout}'s own default is {usual:g}" if usual else ""
    found = layer.settings["eps"]
    note = f"the file does not tell eps: the module's {found} is assumed{told}"
    return RequirementRow(layer.name, "eps", found, found, "assumed", source_layer, note)


def left_behind(
    unused: Mapping[str, ArrayInfo], source_layers: Mapping[str, str], takers: Mapping[str, Sequence[Layer]]
) -> tuple[RequirementRow, ...]:
    """One row for each unused array of a source layer whose other arrays are used: without it the function differs.

    unused         name → info of the sources that fill nothing
    source_layers  source name → its layer
    """
    rows = []
    for name, info in unused.items():
        for layer in takers.get(source_layers[name], ()):
            leaf = name.replace("/", ".").rpartition(".")[2]
            is_bias = leaf in ("bias", "biases")
            row = RequirementRow(
                layer.name, "bias" if is_bias else leaf, f"array {info.shape}", None, "differs", source_layers[name],
                adoptable=is_bias and layer.settings.get("bias") is False and layer.kind in _WITH_BIAS,
            )  # fmt: skip
            note = f"The source layer has the array {name}, for which {layer.class_name} has no place;"
            keep = f'accept="{_escaped(row.name)}" leaves it behind.'
            if is_bias:
                way = f"model.{layer.name}.bias = nn.Parameter(torch.zeros({info.count}))"
                take = f'; or adopt="{_escaped(row.name)}" lets apply_plan do so' if row.adoptable else ""
                keep += f" Give it one: {way}{take}; or fold it into the batch-norm behind: see how-to/channels."
            rows.append(replace(row, note=f"{note} {keep}"))
    return tuple(rows)


_WITH_BIAS = ("conv", "depthwise", "conv_transpose", "dense")


def with_biases(layers: Sequence[Layer], adopted: Sequence[RequirementRow]) -> tuple[Layer, ...]:
    """The layers as they are once these biases are adopted: each with an array more."""
    names = {row.layer for row in adopted if row.attribute == "bias"}
    return tuple(_with_bias(layer) if layer.name in names else layer for layer in layers)


def _with_bias(layer: Layer) -> Layer:
    weight = layer.arrays["weight"]
    groups = layer.settings.get("groups", 1)
    turned = layer.kind == "conv_transpose" and isinstance(groups, int)
    outputs = weight.shape[1] * groups if turned else weight.shape[0]  # type: ignore[operator]
    arrays = {**layer.arrays, "bias": TargetArray((outputs,), weight.dtype)}
    return replace(layer, arrays=arrays, settings={**layer.settings, "bias": True})
