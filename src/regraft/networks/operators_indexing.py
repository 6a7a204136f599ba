"""The operators that are steps with indices, bounds or sizes that are computed as the network runs."""

from collections.abc import Callable, Mapping

from regraft.networks.axis_orders import any_order, file_order, with_channels
from regraft.networks.operators import Operator, OperatorCall, python

_UNARY = ("erfc", "asin", "acos", "sinh", "cosh", "asinh", "acosh", "atanh")
_BITS = {"bitwise_not": "~{0}", "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}"}


def _shape(call: OperatorCall) -> str:
    """All sizes, or those from `start` to before `end`."""
    start, end = call.settings.get("start") or 0, call.settings.get("end")
    part = f"[{start or ''}:{'' if end is None else end}]" if start or end is not None else ""
    return f"tuple({call.texts[0]}.shape{part})"


def _fill(call: OperatorCall) -> str:
    value, dtype = python(call.settings["value"]), call.settings["dtype"]
    return f"torch.full({call.texts[0]}, {value}, dtype=torch.{dtype}, device=device)"


def _range(call: OperatorCall) -> str:
    """Between numbers, which may be tensors of one."""
    texts = [
        text if value is not None and value.shape is None else f"{text}.item()"
        for text, value in zip(call.texts, call.values, strict=True)
    ]
    return f"torch.arange({', '.join(texts)}, device=device)"


def _flattened(name: str) -> Callable[[OperatorCall], str]:
    """A softmax over all axes from the given one on."""

    def write(call: OperatorCall) -> str:
        x, axis, rank = call.texts[0], call.settings["axis"], call.first.rank
        if axis % rank == rank - 1:
            return f"{x}.{name}(-1)"
        return f"{x}.flatten({axis}).{name}(-1).reshape({x}.shape)"

    return write


def _gather(call: OperatorCall) -> str:
    """At a number of Python the axis goes; at indices it is replaced by theirs."""
    x, index, axis = call.texts[0], call.texts[1], call.settings.get("axis", 0) % max(call.first.rank, 1)
    number = call.values[1]
    if number is not None and number.shape is None and not isinstance(number.plain, tuple):
        return f"{x}[{':, ' * axis}{index}]"
    return f"take({x}, {index}, {axis})"


def _gather_sizes(call: OperatorCall) -> str:
    """Of sizes one, or several."""
    index = call.values[1]
    if index is not None and isinstance(index.plain, tuple):
        return f"tuple({call.texts[0]}[i] for i in {call.texts[1]})"
    return f"{call.texts[0]}[{call.texts[1]}]"


def _batch_dot(call: OperatorCall) -> str:
    """The sum over one axis of each of two tensors, for each example; a number for each is a column."""
    (first, second), ranks = call.settings["axes"], [value.rank for value in call.values if value is not None]
    left, right = list("abcdefgh"[: ranks[0]]), ["a", *"ijklmnop"[: ranks[1] - 1]]
    right[second % ranks[1]] = left[first % ranks[0]]
    kept = [letter for letter in [*left, *right[1:]] if letter != left[first % ranks[0]]]
    text = f'torch.einsum("{"".join(left)},{"".join(right)}->{"".join(kept)}", {call.texts[0]}, {call.texts[1]})'
    return f"{text}.unsqueeze(-1)" if len(kept) == 1 else text


def _global(name: str) -> Callable[[OperatorCall], str]:
    def write(call: OperatorCall) -> str:
        return f"{call.texts[0]}.{name}({python(tuple(range(2, call.first.rank)))}, keepdim=True)"

    return write


def _top(call: OperatorCall) -> str:
    largest = "" if call.settings.get("largest", True) else ", largest=False"
    return f"{call.texts[0]}.topk({call.settings['k']}, {call.settings['axis']}{largest})"


def _function(name: str, *settings: str) -> Callable[[OperatorCall], str]:
    """A call of a function with all inputs, then some settings."""

    def write(call: OperatorCall) -> str:
        values = [python(call.settings[setting]) for setting in settings]
        return f"{name}({', '.join([*call.texts, *values])})"

    return write


def _one_hot(call: OperatorCall) -> str:
    settings = [python(call.settings[name]) for name in ("depth", "off", "on", "axis")]
    return f"one_hot_values({call.texts[0]}, {', '.join(settings)}, torch.{call.settings['dtype']})"


def _grid_sample(call: OperatorCall) -> str:
    named = [f"{name}={python(call.settings[name])}" for name in ("mode", "padding_mode", "align_corners")]
    return f"F.grid_sample({', '.join([*call.texts, *named])})"


def _expand(call: OperatorCall) -> str:
    shape = call.texts[1] if len(call.texts) > 1 else python(call.settings["shape"])
    return f"spread({call.texts[0]}, {shape})"


def _tile(call: OperatorCall) -> str:
    repeats = call.texts[1] if len(call.texts) > 1 else python(call.settings["repeats"])
    return f"{call.texts[0]}.repeat({repeats})"


def _resize_to(call: OperatorCall) -> str:
    """To sizes that are computed, those of the batch and the channels included."""
    named = {name: call.settings.get(name) for name in ("mode", "coordinates", "rounding")}
    words = ", ".join(f"{name}={python(value)}" for name, value in named.items() if value is not None)
    return f"resize({call.texts[0]}, size={call.texts[1]}[2:], {words})"


def _subscript(call: OperatorCall) -> str:
    """An index of slices, numbers, new axes and `...`."""
    parts = []
    for part in call.settings["index"]:
        if isinstance(part, tuple):
            start, stop, step = part
            parts.append(f"{start or ''}:{'' if stop is None else stop}{'' if step in (None, 1) else f':{step}'}")
        else:
            parts.append("..." if part == "..." else repr(part))
    return f"{call.texts[0]}[{', '.join(parts)}]"


def _resize_to_map(call: OperatorCall) -> str:
    """To a height and a width that are computed."""
    named = {name: call.settings.get(name) for name in ("mode", "coordinates", "rounding")}
    words = ", ".join(f"{name}={python(value)}" for name, value in named.items() if value is not None)
    return f"resize({call.texts[0]}, size={call.texts[1]}, {words})"


INDEXING: Mapping[str, Operator] = {
    **{name: Operator(f"torch.{name}({{0}})", any_order) for name in _UNARY},
    **{name: Operator(text, any_order) for name, text in _BITS.items()},
    "shape": Operator(_shape, file_order),
    "numel": Operator("{0}.numel()", file_order),
    "fill": Operator(_fill, file_order, sizes=_fill),
    "range": Operator(_range, file_order, sizes=_range),
    "nonzero": Operator("torch.nonzero({0}).T", file_order),
    "reshape_keeping": Operator("reshape_keeping({0}, {1})", file_order),
    "flatten_2d": Operator(
        lambda call: f"{call.texts[0]}.flatten({call.settings['axis']}).flatten(0, {call.settings['axis'] - 1})",
        file_order,
    ),
    "reverse_axes": Operator(
        lambda call: f"{call.texts[0]}.permute({python(tuple(range(call.first.rank))[::-1])})", file_order
    ),
    "matrix_transpose": Operator("{0}.transpose(-2, -1)", file_order),
    "expand": Operator(_expand, file_order),
    "tile": Operator(_tile, file_order),
    "slice_between": Operator(_function("slice_between", "axes", "steps"), file_order),
    "gather": Operator(_gather, file_order, sizes=_gather_sizes),
    "gather_elements": Operator(_function("take_elements", "axis"), file_order),
    "gather_nd": Operator(_function("take_nd", "batch"), file_order),
    "scatter_nd": Operator(_function("put_nd", "reduction"), file_order),
    "scatter_elements": Operator(_function("put_elements", "axis", "reduction"), file_order),
    "one_hot_values": Operator(_one_hot, file_order),
    "pad_axes": Operator(_function("pad_axes", "pads", "axes", "mode", "value"), file_order),
    "triu": Operator("{0}.triu({diagonal})", file_order),
    "tril": Operator("{0}.tril({diagonal})", file_order),
    "softmax_from": Operator(_flattened("softmax"), file_order),
    "log_softmax_from": Operator(_flattened("log_softmax"), file_order),
    "topk": Operator(_top, file_order),
    "global_avg_pool": Operator(_global("mean"), with_channels),
    "global_max_pool": Operator(_global("amax"), with_channels),
    "local_response_norm": Operator(
        "F.local_response_norm({0}, {size}, alpha={alpha}, beta={beta}, k={bias})", with_channels
    ),
    "rank": Operator("{0}.dim()", file_order),
    "real_part": Operator("{0}.real", file_order),
    "imaginary_part": Operator("{0}.imag", file_order),
    "rfft": Operator("torch.fft.rfft({0}, {lengths}[0])", file_order),
    "rfft2": Operator("torch.fft.rfft2({0}, {lengths})", file_order),
    "full_like": Operator("torch.full_like({0}, {value})", any_order),
    "select_rows": Operator(_function("select_rows"), file_order),
    "subscript": Operator(_subscript, file_order),
    "batch_dot": Operator(_batch_dot, file_order),
    "slice_sizes": Operator(_function("slice_sizes"), file_order),
    "pad_sizes": Operator(_function("pad_sizes", "value", "by_axis"), file_order),
    "slice_masked": Operator(_function("slice_masked", "steps", "begin_mask", "end_mask", "shrink_mask"), file_order),
    "space_to_batch": Operator(_function("space_to_batch", "block", "sides"), file_order),
    "batch_to_space": Operator(_function("batch_to_space", "block", "sides"), file_order),
    "resize_to_map": Operator(_resize_to_map, with_channels),
    "grid_sample": Operator(_grid_sample, file_order),
    "resize_to": Operator(_resize_to, with_channels),
}
