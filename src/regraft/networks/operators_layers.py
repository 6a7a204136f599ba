"""The operators that are layers of torch: their constructors and calls."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.errors import BuildError
from regraft.networks.axis_orders import (
    Arrangement,
    Held,
    any_order,
    as_stored,
    file_order,
    with_channel_axis,
    with_channels,
)
from regraft.networks.network import Settings
from regraft.networks.operators import Operator, OperatorCall, Pads, arguments, flat_pads, python, unless

INTEGERS = ("int64", "int32")


# --- convolutions -----------------------------------------------------------------------------------------------------


def fixed_pads(padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pads | str:
    """(before, after) for each axis, as far as they do not depend on the input's size; else "same" or "same_lower"."""
    if not isinstance(padding, str):
        return tuple(tuple(pair) for pair in padding)
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if set(stride) != {1}:
        return padding
    totals = [(size - 1) * spread for size, spread in zip(kernel, dilation, strict=True)]
    pairs = [(total // 2, total - total // 2) for total in totals]
    return tuple((after, before) if padding == "same_lower" else (before, after) for before, after in pairs)


def window(settings: Settings, kernel: Sequence[int]) -> dict[str, Any]:
    """Stride and dilation in full, and the padding as far as it is fixed."""
    ones = (1,) * len(kernel)
    stride, dilation = tuple(settings.get("stride", ones)), tuple(settings.get("dilation", ones))
    pads = fixed_pads(settings.get("padding", "valid"), kernel, stride, dilation)
    return {"stride": stride, "dilation": dilation, "pads": pads}


def is_symmetric(pads: Pads) -> bool:
    """Whether torch's layers can pad so by themselves."""
    return all(before == after >= 0 for before, after in pads)


def _conv(call: OperatorCall) -> str:
    outputs, inputs, *kernel = call.shapes["weight"]
    groups, parts = _groups(call), window(call.settings, kernel)
    pads = parts["pads"]
    own = None if isinstance(pads, str) or not is_symmetric(pads) else unless([before for before, _ in pads], 0)
    kind = f"Conv{len(kernel)}dSame" if isinstance(pads, str) else f"nn.Conv{len(kernel)}d"
    lower = {"lower": True} if pads == "same_lower" else {}
    named = arguments(
        inputs * groups, outputs, kernel, stride=unless(parts["stride"], 1), padding=own,
        dilation=unless(parts["dilation"], 1), groups=unless(groups, 1),
        bias=unless("bias" in call.shapes, True), **lower,
    )  # fmt: skip
    return f"{kind}({named})"


def _groups(call: OperatorCall) -> int:
    """As recorded, else what the input's channels and the kernel's leave."""
    recorded = call.settings.get("groups", 1)
    return int(recorded) if recorded is not None else (call.first.shape or ())[1] // call.shapes["weight"][1]


def _conv_call(call: OperatorCall) -> str:
    kernel = call.shapes["weight"][2:]
    pads = window(call.settings, kernel)["pads"]
    x = call.texts[0]
    if not isinstance(pads, str) and not is_symmetric(pads):
        x = f"F.pad({x}, {python(flat_pads(pads))})"
    return f"{call.module}({x})"


def _cuts(call: OperatorCall) -> list[tuple[int, int]]:
    kernel = call.shapes["weight"][2:]
    given = call.settings.get("padding", "valid")
    extra = call.settings.get("output_padding") or (0,) * len(kernel)
    pads = ((0, 0),) * len(kernel) if isinstance(given, str) else given
    return [(before, after - more) for (before, after), more in zip(pads, extra, strict=True)]


def _conv_transpose(call: OperatorCall) -> str:
    inputs, outputs, *kernel = call.shapes["weight"]
    groups, cuts = call.settings.get("groups", 1), _cuts(call)
    parts = window({**call.settings, "padding": "valid"}, kernel)
    longer = [max(before - after, 0) for before, after in cuts]
    named = arguments(
        inputs, outputs * groups, kernel, stride=unless(parts["stride"], 1),
        padding=unless([before for before, _ in cuts], 0), output_padding=unless(longer, 0), groups=unless(groups, 1),
        bias=unless("bias" in call.shapes, True), dilation=unless(parts["dilation"], 1),
    )  # fmt: skip
    return f"nn.ConvTranspose{len(kernel)}d({named})"


def _conv_transpose_call(call: OperatorCall) -> str:
    """torch cuts as much after as before; what is to be cut more is cut from the result."""
    _refuse_another_size(call)
    rest = [after - before for before, after in _cuts(call)]
    whole = f"{call.module}({call.texts[0]})"
    if max(rest) <= 0:
        return whole
    return f"{whole}[..., {', '.join(f':-{more}' if more > 0 else ':' for more in rest)}]"


def _refuse_another_size(call: OperatorCall) -> None:
    """Raise BuildError when the file records a size that the stride and what is cut do not give."""
    wanted, kernel = call.settings.get("size"), call.shapes["weight"][2:]
    if wanted is None:
        return
    stride = call.settings.get("stride", (1,) * len(kernel))
    rows = zip((call.first.shape or ())[2:], kernel, stride, _cuts(call), strict=True)
    given = [(size - 1) * step + width - before - after for size, width, step, (before, after) in rows]
    if given != list(wanted):
        raise BuildError(f"a transposed convolution to the size {tuple(wanted)}: its stride gives {tuple(given)}")


# --- dense layers, norms, embeddings ----------------------------------------------------------------------------------


def _linear(call: OperatorCall) -> str:
    outputs, inputs = call.shapes["weight"]
    return f"nn.Linear({arguments(inputs, outputs, bias=unless('bias' in call.shapes, True))})"


def _on_last_axis(settings: Settings, inputs: Sequence[Held]) -> Arrangement:
    order, axes = as_stored(inputs[0].rank), settings.get("axes", (-1,))
    if sorted(axis % len(order) for axis in axes) != list(order[-len(axes) :]):
        raise BuildError(f"The axes {axes} of a norm are not the last of {len(order)}.")
    return Arrangement((order,), order)


def _batch_norm(call: OperatorCall) -> str:
    rank = {2: 1, 3: 1, 4: 2, 5: 3}[call.first.rank]
    momentum = call.settings.get("momentum", 0.1)
    named = arguments(
        call.shapes["running_mean"][0], eps=unless(call.settings["eps"], 1e-5), momentum=unless(momentum, 0.1),
        affine=unless("weight" in call.shapes, True),
    )  # fmt: skip
    return f"nn.BatchNorm{rank}d({named})"


def _layer_norm(call: OperatorCall) -> str:
    rank = len(call.settings.get("axes", (-1,)))
    shape = call.shapes.get("weight") or (call.first.shape or ())[-rank:]
    named = arguments(
        list(shape), eps=unless(call.settings["eps"], 1e-5), elementwise_affine=unless("weight" in call.shapes, True),
        bias=unless("bias" in call.shapes or "weight" not in call.shapes, True),
    )  # fmt: skip
    return f"nn.LayerNorm({named})"


def _rms_norm(call: OperatorCall) -> str:
    shape = call.shapes.get("weight") or (call.first.shape or ())[-1:]
    affine = unless("weight" in call.shapes, True)
    return f"nn.RMSNorm({arguments(list(shape), eps=call.settings['eps'], elementwise_affine=affine)})"


def _group_norm(call: OperatorCall) -> str:
    named = {"eps": unless(call.settings["eps"], 1e-5), "affine": unless("weight" in call.shapes, True)}
    channels = (call.first.shape or ())[1]
    return f"nn.GroupNorm({arguments(call.settings['groups'], channels, **named)})"


def _instance_norm(call: OperatorCall) -> str:
    rank = {2: 1, 3: 1, 4: 2, 5: 3}[call.first.rank]
    named = {"eps": unless(call.settings["eps"], 1e-5), "affine": unless("weight" in call.shapes, False)}
    return f"nn.InstanceNorm{rank}d({arguments((call.first.shape or ())[1], **named)})"


def _embedding(call: OperatorCall) -> str:
    return f"nn.Embedding({arguments(*call.shapes['weight'])})"


def _embedding_call(call: OperatorCall) -> str:
    x = call.texts[0]
    return f"{call.module}({x})" if call.first.dtype in INTEGERS else f"{call.module}({x}.long())"


def _prelu(call: OperatorCall) -> str:
    return f"nn.PReLU({arguments(unless(call.shapes['weight'][0], 1) or 1)})"


# --- recurrent layers -------------------------------------------------------------------------------------------------


def _recurrent(kind: str) -> Any:
    def write(call: OperatorCall) -> str:
        settings, shapes = call.settings, call.shapes
        named = arguments(
            shapes["weight_ih_l0"][1], settings["hidden"], bias=unless("bias_ih_l0" in shapes, True),
            batch_first=unless(settings.get("batch_first", True), False),
            bidirectional=unless(settings.get("bidirectional", False), False),
            nonlinearity=unless(settings.get("nonlinearity", "tanh"), "tanh"),
        )  # fmt: skip
        return f"nn.{kind}({named})"

    return write


def _lstm_call(call: OperatorCall) -> str:
    """Outputs y, h, c."""
    states = [text for text in call.texts[1:] if text != "None"]
    return f"{call.module}({call.texts[0]}, ({', '.join(states)}))" if states else f"{call.module}({call.texts[0]})"


def _rnn_call(call: OperatorCall) -> str:
    return f"{call.module}({', '.join(text for text in call.texts if text != 'None')})"


def _own_recurrent(call: OperatorCall) -> str:
    """A recurrent layer of `runtime`, for what torch's layers do not compute."""
    settings, shapes = call.settings, call.shapes
    named = arguments(
        shapes["weight_ih_l0"][1], settings["hidden"], kind=settings["kind"], bias="bias_ih_l0" in shapes,
        two_biases=unless("bias_hh_l0" in shapes, False), activation=unless(settings["activation"], "tanh"),
        gates=unless(settings.get("gates", "sigmoid"), "sigmoid"),
        reset_after=unless(settings.get("reset_after", True), True),
    )  # fmt: skip
    return f"RecurrentLayer({named})"


LAYERS: Mapping[str, Operator] = {
    "conv": Operator(_conv_call, with_channels, _conv),
    "conv_transpose": Operator(_conv_transpose_call, with_channels, _conv_transpose),
    "linear": Operator("{module}({0})", _on_last_axis, _linear, flat=True),
    "batch_norm": Operator("{module}({0})", with_channel_axis, _batch_norm, flat=True),
    "layer_norm": Operator("{module}({0})", _on_last_axis, _layer_norm, flat=True),
    "rms_norm": Operator("{module}({0})", _on_last_axis, _rms_norm),
    "group_norm": Operator("{module}({0})", with_channel_axis, _group_norm),
    "instance_norm": Operator("{module}({0})", with_channel_axis, _instance_norm),
    "embedding": Operator(_embedding_call, file_order, _embedding),
    "prelu": Operator("{module}({0})", with_channel_axis, _prelu),
    "lstm": Operator(_lstm_call, file_order, _recurrent("LSTM")),
    "gru": Operator(_rnn_call, file_order, _recurrent("GRU")),
    "rnn": Operator(_rnn_call, file_order, _recurrent("RNN")),
    "recurrent": Operator(_rnn_call, file_order, _own_recurrent),
    "dropout": Operator(
        "{module}({0})", any_order, lambda call: f"nn.Dropout({arguments(call.settings['p'])})", flat=True
    ),
}
