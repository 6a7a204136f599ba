"""The operators that are steps: functions of torch without arrays of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.networks.axis_orders import (
    Arrange,
    Arrangement,
    Held,
    along,
    any_order,
    file_order,
    per_axis,
    reduced,
    with_channels,
)
from regraft.networks.network import Settings
from regraft.networks.operators import Operator, OperatorCall, arguments, flat_pads, python, unless
from regraft.networks.operators_layers import is_symmetric, window

# --- numbers by themselves --------------------------------------------------------------------------------------------

_UNARY = {
    "relu": "F.relu({0})", "relu6": "F.relu6({0})", "sigmoid": "torch.sigmoid({0})", "tanh": "torch.tanh({0})",
    "exp": "torch.exp({0})", "expm1": "torch.expm1({0})", "log": "torch.log({0})", "log1p": "torch.log1p({0})",
    "sqrt": "torch.sqrt({0})", "rsqrt": "torch.rsqrt({0})", "neg": "-{0}", "abs": "torch.abs({0})",
    "floor": "torch.floor({0})", "ceil": "torch.ceil({0})", "round": "torch.round({0})", "erf": "torch.erf({0})",
    "sin": "torch.sin({0})", "cos": "torch.cos({0})", "tan": "torch.tan({0})", "atan": "torch.atan({0})",
    "softplus": "F.softplus({0})", "softsign": "F.softsign({0})", "silu": "F.silu({0})", "mish": "F.mish({0})",
    "hardswish": "F.hardswish({0})", "sign": "torch.sign({0})", "reciprocal": "torch.reciprocal({0})",
    "square": "torch.square({0})", "logical_not": "torch.logical_not({0})", "isnan": "torch.isnan({0})",
    "isinf": "torch.isinf({0})", "selu": "F.selu({0})", "hardsigmoid": "(({0}) * {slope} + {offset}).clamp(0, 1)",
    "leaky_relu": "F.leaky_relu({0}, {slope})", "elu": "F.elu({0}, {alpha})", "celu": "F.celu({0}, {alpha})",
    "thresholded_relu": "F.threshold({0}, {threshold}, 0.0)", "logsigmoid": "F.logsigmoid({0})",
    "hardshrink": "F.hardshrink({0}, {threshold})", "softshrink": "F.softshrink({0}, {threshold})",
    "tanhshrink": "F.tanhshrink({0})",
}  # fmt: skip
_BINARY = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "floor_div": "{0} // {1}",
    "div_trunc": 'torch.div({0}, {1}, rounding_mode="trunc")', "mod": "torch.remainder({0}, {1})",
    "fmod": "torch.fmod({0}, {1})", "pow": "{0} ** {1}", "equal": "{0} == {1}", "not_equal": "{0} != {1}",
    "less": "{0} < {1}", "less_equal": "{0} <= {1}", "greater": "{0} > {1}", "greater_equal": "{0} >= {1}",
    "logical_xor": "torch.logical_xor({0}, {1})", "squared_difference": "({0} - {1}) ** 2",
    "atan2": "torch.atan2({0}, {1})",
}  # fmt: skip
_SIZES_BINARY = {
    "add",
    "sub",
    "mul",
    "floor_div",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
}


def _extreme(name: str) -> Any:
    def write(call: OperatorCall) -> str:
        bounds = {"maximum": "min", "minimum": "max"}
        for index in (0, 1):
            other = call.values[index]
            if other is not None and other.shape is None:
                return f"{call.texts[1 - index]}.clamp({bounds[name]}={call.texts[index]})"
        return f"torch.{name}({call.texts[0]}, {call.texts[1]})"

    return write


def _logical(sign: str, function: str) -> Any:
    """Of tensors by torch's function, beside a truth value of Python by its sign."""

    def write(call: OperatorCall) -> str:
        is_tensor = all(value is not None and value.shape is not None for value in call.values)
        return f"{function}({', '.join(call.texts)})" if is_tensor else f" {sign} ".join(call.texts)

    return write


def _gelu(call: OperatorCall) -> str:
    approximate = ', approximate="tanh"' if call.settings.get("approximate") else ""
    return f"F.gelu({call.texts[0]}{approximate})"


def _clamp(call: OperatorCall) -> str:
    least, most = call.settings.get("min"), call.settings.get("max")
    if (least, most) == (0, 6):
        return f"F.relu6({call.texts[0]})"
    return f"{call.texts[0]}.clamp({arguments(min=least, max=most)})"


def _where(call: OperatorCall) -> str:
    condition, *branches = call.texts
    return f"torch.where({condition}, {', '.join(branches)})"


def _cast(call: OperatorCall) -> str:
    x, to = call.texts[0], call.settings["dtype"]
    if call.first.dtype == to:
        return x
    short = {"float32": "float()", "int64": "long()", "int32": "int()", "bool": "bool()"}
    return f"{x}.{short.get(to, f'to(torch.{to})')}"


# --- along axes -------------------------------------------------------------------------------------------------------


def _reduce(function: str) -> Any:
    def write(call: OperatorCall) -> str:
        axes = call.settings["axes"]
        keepdim = ", keepdim=True" if call.settings.get("keepdim") else ""
        where = python(axes[0] if len(axes) == 1 else axes)
        return f"{call.texts[0]}.{function}({where}{keepdim})" if axes else call.texts[0]

    return write


def _reduce_each(function: str) -> Any:
    """Reductions for which torch takes one axis at a time: the last first, so that the others keep their numbers."""

    def write(call: OperatorCall) -> str:
        keepdim = ", keepdim=True" if call.settings.get("keepdim") else ""
        calls = [f".{function}({axis}{keepdim})" for axis in sorted(call.settings["axes"], reverse=True)]
        return call.texts[0] + "".join(calls)

    return write


def _norm(power: int) -> Any:
    def write(call: OperatorCall) -> str:
        keepdim = ", keepdim=True" if call.settings.get("keepdim") else ""
        return f"torch.linalg.vector_norm({call.texts[0]}, {power}, {python(call.settings['axes'])}{keepdim})"

    return write


def _argument(function: str) -> Any:
    def write(call: OperatorCall) -> str:
        keepdim = ", keepdim=True" if call.settings.get("keepdim") else ""
        return f"{call.texts[0]}.{function}({call.settings['axes'][0]}{keepdim})"

    return write


def _concat(call: OperatorCall) -> str:
    return f"torch.cat([{', '.join(call.texts)}], {call.settings['axis']})"


def _concat_sizes(call: OperatorCall) -> str:
    return f"({', '.join('*' + text if _is_many(value) else text for text, value in _pairs(call))},)"


def _pairs(call: OperatorCall) -> list[tuple[str, Held | None]]:
    return list(zip(call.texts, call.values, strict=True))


def _is_many(value: Held | None) -> bool:
    return value is not None and (not value.is_plain or isinstance(value.plain, tuple))


def _slice(call: OperatorCall) -> str:
    """Starts, ends and steps in the words of Python, one for each axis that is sliced."""
    settings, rank = call.settings, call.first.rank
    parts = [":"] * rank
    steps = settings.get("steps") or (1,) * len(settings["axes"])
    for axis, start, end, step in zip(settings["axes"], settings["starts"], settings["ends"], steps, strict=True):
        parts[axis] = f"{start or ''}:{'' if end is None else end}{'' if step == 1 else f':{step}'}"
    while parts and parts[-1] == ":":
        parts.pop()
    return f"{call.texts[0]}[{', '.join(parts)}]" if parts else call.texts[0]


def _index(call: OperatorCall) -> str:
    """One position of an axis, which goes."""
    axis, index = call.settings["axes"][0], call.settings["index"]
    return f"{call.texts[0]}[{':, ' * axis}{index}]"


def _unstack(call: OperatorCall) -> str:
    return f"{call.texts[0]}.unbind({call.settings['axes'][0]})"


def _indexed(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    return reduced({**settings, "keepdim": False}, inputs)


def _gather(call: OperatorCall) -> str:
    x, index = call.texts
    axis = call.settings.get("axis", 0) % max(call.first.rank, 1)
    number = call.values[1]
    if number is not None and number.is_plain and isinstance(number.plain, int):
        return f"{x}[{':, ' * axis}{number.plain}]"
    return f"{x}[{':, ' * axis}{index}]"


def _pad(call: OperatorCall) -> str:
    settings = call.settings
    widths = python(flat_pads(settings["pads"]))
    mode, value = settings.get("mode", "constant"), settings.get("value", 0)
    if mode != "constant":
        return f"pad_edges({call.texts[0]}, {python(settings['pads'])}, {python(mode)})"
    return f"F.pad({call.texts[0]}, {widths}{f', value={python(value)}' if value else ''})"


# --- shapes -----------------------------------------------------------------------------------------------------------


def _reshape(call: OperatorCall) -> str:
    x, shape = call.texts[0], call.settings.get("shape")
    if shape is None:
        return f"{x}.reshape({call.texts[1]})"
    sizes = [f"{x}.shape[{axis}]" if size == 0 else str(size) for axis, size in enumerate(shape)]
    if sizes == [f"{x}.shape[0]", "-1"] and call.first.rank > 1:
        return f"torch.flatten({x}, 1)"
    return f"{x}.reshape({', '.join(sizes) or '()'})"


def _flatten(call: OperatorCall) -> str:
    return f"torch.flatten({call.texts[0]}, {call.settings.get('start', 1)})"


def _unsqueeze(call: OperatorCall) -> str:
    axes = sorted(axis % (call.first.rank + len(call.settings["axes"])) for axis in call.settings["axes"])
    return call.texts[0] + "".join(f".unsqueeze({axis})" for axis in axes)


def _squeeze(call: OperatorCall) -> str:
    axes = call.settings.get("axes")
    if axes is None:
        return f"{call.texts[0]}.squeeze()"
    return f"{call.texts[0]}.squeeze({python(axes[0] if len(axes) == 1 else tuple(axes))})"


def _squeezed(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    return (
        file_order(settings, inputs)
        if settings.get("axes") is None
        else reduced({**settings, "keepdim": False}, inputs)
    )


def _shape(call: OperatorCall) -> str:
    return f"tuple({call.texts[0]}.shape)"


def _split(call: OperatorCall) -> str:
    sizes = call.settings["sizes"]
    return f"{call.texts[0]}.split({python(sizes if isinstance(sizes, int) else list(sizes))}, {call.settings['axis']})"


# --- windows ----------------------------------------------------------------------------------------------------------


def _pool(kind: str) -> Any:
    def write(call: OperatorCall) -> str:
        settings, kernel = call.settings, tuple(call.settings["kernel"])
        parts = window({"stride": kernel, **settings}, kernel)
        pads, x = parts["pads"], call.texts[0]
        if isinstance(pads, str) or not _fits(kind, settings, pads):
            zeros = bool(settings.get("count_pad"))
            where = f"{arguments(kernel, parts['stride'])}, {python(pads)}{', zeros=True' if zeros else ''}"
            return f"{kind}_pool_padded({x}, {where})"
        named = arguments(
            kernel, unless(parts["stride"], kernel[0]) if len(set(kernel)) == 1 else parts["stride"],
            padding=unless([before for before, _ in pads], 0), ceil_mode=unless(bool(settings.get("ceil")), False),
            dilation=unless(parts["dilation"], 1), **_counted(kind, settings, pads),
        )  # fmt: skip
        return f"F.{kind}_pool{len(kernel)}d({x}, {named})".replace(", None", "")

    return write


def _counted(kind: str, settings: Settings, pads: Any) -> dict[str, Any]:
    """torch counts the zeros of its padding unless it is asked not to."""
    return (
        {"count_include_pad": False} if kind == "avg" and any(map(any, pads)) and not settings.get("count_pad") else {}
    )


def _fits(kind: str, settings: Settings, pads: Any) -> bool:
    """Whether torch's own pooling pads so: as much before as after, at most half of the window."""
    half = all(2 * before <= size for (before, _), size in zip(pads, settings["kernel"], strict=True))
    zeros = kind == "max" and settings.get("count_pad")
    return is_symmetric(pads) and half and not (zeros and any(map(any, pads)))


def _resize(call: OperatorCall) -> str:
    settings = call.settings
    torch_mode = _torch_mode(settings, call.first.rank)
    size, scale = settings.get("size"), settings.get("scale")
    if not torch_mode:
        chosen = {name: settings.get(name) for name in ("size", "scale", "mode", "coordinates", "rounding")}
        return f"resize({call.texts[0]}, {arguments(**chosen)})"
    factors = None if scale is None else [int(f) if float(f).is_integer() else float(f) for f in scale]
    align = unless(settings.get("coordinates") == "align_corners", False)
    named = arguments(size=size, scale_factor=factors, mode=unless(torch_mode, "nearest"), align_corners=align)
    return f"F.interpolate({call.texts[0]}, {named})"


def _torch_mode(settings: Settings, rank: int) -> str:
    """The mode of F.interpolate that computes the same; "" where none does."""
    scale, mode = settings.get("scale"), settings.get("mode", "nearest")
    coordinates = settings.get("coordinates", "half_pixel")
    whole = scale is not None and all(float(factor).is_integer() for factor in scale)
    if mode == "nearest":
        same = whole and coordinates in ("asymmetric", "half_pixel") and not settings.get("rounding")
        return "nearest" if same else ""
    same = coordinates in ("half_pixel", "align_corners") and (whole or scale is None)
    return {("linear", 3): "linear", ("linear", 4): "bilinear"}.get((mode, rank), "") if same else ""


def _blocks(name: str) -> Any:
    def write(call: OperatorCall) -> str:
        return f"{name}({call.texts[0]}, {call.settings['block']}{unless_mode(call.settings)})"

    return write


def unless_mode(settings: Settings) -> str:
    """The order of depth_to_space's channels, where it is not TensorFlow's."""
    mode = settings.get("mode", "DCR")
    return "" if mode == "DCR" else f", {python(mode)}"


def _numbers(text: str) -> Any:
    return lambda call: text.format(*call.texts)


def _steps(table: Mapping[str, str], arrange: Arrange, *, flat: bool = False) -> dict[str, Operator]:
    sizes = {name: _numbers(text) if name in _SIZES_BINARY else None for name, text in table.items()}
    return {name: Operator(text, arrange, sizes=sizes[name], flat=flat) for name, text in table.items()}


STEPS: Mapping[str, Operator] = {
    **_steps(_UNARY, any_order, flat=True),
    **_steps(_BINARY, any_order),
    "gelu": Operator(_gelu, flat=True),
    "clamp": Operator(_clamp, flat=True),
    "identity": Operator("{0}", flat=True, sizes=_numbers("{0}")),
    "logical_and": Operator(_logical("&", "torch.logical_and")),
    "logical_or": Operator(_logical("|", "torch.logical_or")),
    "maximum": Operator(_extreme("maximum")),
    "minimum": Operator(_extreme("minimum")),
    "where": Operator(_where),
    "cast": Operator(_cast, sizes=_numbers("{0}"), flat=True),
    "softmax": Operator("{0}.softmax({axis})", along("axis")),
    "log_softmax": Operator("{0}.log_softmax({axis})", along("axis")),
    "cumsum": Operator("{0}.cumsum({axis})", along("axis")),
    "flip": Operator("{0}.flip({axes})", along("axes")),
    "concat": Operator(_concat, along("axis"), sizes=_concat_sizes),
    "split": Operator(_split, along("axis")),
    "chunk": Operator("{0}.chunk({count}, {axis})", along("axis")),
    "unstack": Operator(_unstack, lambda settings, inputs: _indexed({"axes": (settings["axis"],)}, inputs)),
    "stack": Operator(lambda call: f"torch.stack([{', '.join(call.texts)}], {call.settings['axis']})", file_order),
    "local_response_norm": Operator("F.local_response_norm({0}, {size}, {alpha}, {beta}, {k})", with_channels),
    "mean": Operator(_reduce("mean"), reduced),
    "sum": Operator(_reduce("sum"), reduced),
    "max": Operator(_reduce("amax"), reduced),
    "min": Operator(_reduce("amin"), reduced),
    "prod": Operator(_reduce_each("prod"), reduced),
    "any": Operator(_reduce_each("any"), reduced),
    "all": Operator(_reduce_each("all"), reduced),
    "l1": Operator(_norm(1), reduced),
    "l2": Operator(_norm(2), reduced),
    "logsumexp": Operator(_reduce("logsumexp"), reduced),
    "argmax": Operator(_argument("argmax"), reduced),
    "argmin": Operator(_argument("argmin"), reduced),
    "l2_normalize": Operator("F.normalize({0}, dim={axis}, eps={eps})", along("axis")),
    "slice": Operator(_slice, along("axes")),
    "index": Operator(_index, _indexed),
    "gather": Operator(_gather, file_order, sizes=_gather),
    "pad": Operator(_pad, per_axis("pads")),
    "tile": Operator("{0}.repeat({repeats})", per_axis("repeats")),
    "repeat": Operator("{0}.repeat_interleave({repeats}, {axis})", along("axis")),
    "max_pool": Operator(_pool("max"), with_channels),
    "avg_pool": Operator(_pool("avg"), with_channels),
    "resize": Operator(_resize, with_channels),
    "depth_to_space": Operator(_blocks("depth_to_space"), with_channels),
    "space_to_depth": Operator(_blocks("space_to_depth"), with_channels),
    "reshape": Operator(_reshape, file_order),
    "flatten": Operator(_flatten, file_order),
    "unflatten": Operator("{0}.unflatten({axis}, {sizes})", file_order),
    "merge_steps": Operator("{0}.flatten(0, 1)", file_order),
    "split_steps": Operator("{0}.unflatten(0, (-1, {1}.shape[1]))", file_order),
    "squeeze": Operator(_squeeze, _squeezed),
    "unsqueeze": Operator(_unsqueeze, file_order, sizes=_numbers("{0}")),
    "expand": Operator("{0}.expand({shape})", file_order),
    "shape": Operator(_shape, file_order),
    "matmul": Operator("{0} @ {1}", file_order),
    "einsum": Operator(
        lambda call: f"torch.einsum({call.settings['equation']!r}, {', '.join(call.texts)})", file_order
    ),
    "one_hot": Operator("F.one_hot({0}.long(), {count}).float()", file_order),
    "attention": Operator(
        lambda call: f"F.scaled_dot_product_attention({', '.join(call.texts)}, {arguments(**call.settings)})",
        file_order,
    ),
}
