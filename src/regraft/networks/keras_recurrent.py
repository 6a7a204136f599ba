"""Keras' recurrent and attention layers, as layers and steps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from regraft.formats.keras_config import KerasLayer
from regraft.networks.keras_activations import activation_name
from regraft.networks.keras_builder import LayerCall, RefusedError, number
from regraft.networks.network import Array
from regraft.operations.joins import Fill
from regraft.operations.moves import Gates, Reshape, Take, Transpose
from regraft.operations.operation import Operation

_KINDS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def recurrent(call: LayerCall) -> tuple[str, ...]:
    """LSTM, GRU, SimpleRNN: the sequence or its last step, and the states where they are asked for."""
    settings = call.settings
    kind = _checked_kind(call)
    x = call.step("flip", call.x, axes=(1,)) if settings.get("go_backwards") else call.x
    states = [call.step("unsqueeze", state, axes=(0,)) for state in _initial_states(call)]
    outputs = _called(call, kind, [x, *states], _arrays(call, kind, ""), _layer_settings(call, kind))
    y = outputs[0] if settings.get("return_sequences") else call.step("index", outputs[0], axes=(1,), index=-1)
    if not settings.get("return_state"):
        return (y,)
    return (y, *(call.step("index", state, axes=(0,), index=0) for state in outputs[1:]))


def _checked_kind(call: LayerCall) -> str:
    settings = call.settings
    if call.layer.class_name not in _KINDS or call.layer.class_name.startswith("CuDNN"):
        raise RefusedError("")
    for key in ("stateful", "time_major"):
        if settings.get(key):
            raise RefusedError(key)
    if float(settings.get("dropout") or 0) or float(settings.get("recurrent_dropout") or 0):
        call.note("its dropout acts only in training and is left out.")
    return _KINDS[call.layer.class_name]


def _initial_states(call: LayerCall) -> tuple[str, ...]:
    given = call.named.get("initial_state")
    if given is None:
        return call.rest[0] if call.rest and isinstance(call.rest[0], tuple) else ()
    return (given,) if isinstance(given, str) else tuple(given)


def _layer_settings(call: LayerCall, kind: str) -> Mapping[str, Any]:
    """Which of torch's layers it is, or the own one where activations or the order of steps are others."""
    settings = call.settings
    act = activation_name(settings.get("activation", "tanh"))
    gates = activation_name(settings.get("recurrent_activation", "hard_sigmoid" if kind != "rnn" else "sigmoid"))
    reset_after = kind != "gru" or bool(settings.get("reset_after", False))
    hidden = int(settings.get("units", settings.get("output_dim", 0)))
    is_plain = act == "tanh" and (gates == "sigmoid" or kind == "rnn") and reset_after
    if is_plain or (kind == "rnn" and act == "relu"):
        return {"hidden": hidden, **({"nonlinearity": "relu"} if act == "relu" else {})}
    known = {"tanh", "sigmoid", "relu", "linear", "hard_sigmoid"}
    if not {act, gates} <= known:
        raise RefusedError(f"its activations {act!r} and {gates!r}")
    words = {"hard_sigmoid": "hard_sigmoid_6" if call.builder.is_keras_3 else "hard_sigmoid"}
    return {
        "hidden": hidden, "kind": kind, "activation": words.get(act, act), "gates": words.get(gates, gates),
        "reset_after": reset_after,
    }  # fmt: skip


def _called(
    call: LayerCall, kind: str, inputs: list[str], arrays: Mapping[str, Array], settings: Mapping[str, object]
) -> tuple[str, ...]:
    operator = "recurrent" if "kind" in settings else kind
    count = 3 if kind == "lstm" else 2
    return call.builder.layer_outputs(count, operator, call.path, inputs, arrays, **settings)


def _arrays(call: LayerCall, kind: str, suffix: str) -> dict[str, Array]:
    """The layer's arrays under torch's names. Keras' gates are i f c o and z r h, as columns."""
    order: tuple[Operation, ...] = (Gates(0, (1, 0, 2), "zrh"),) if kind == "gru" else ()
    turned: tuple[Operation, ...] = (Transpose((1, 0), ("in", "gates")),)
    arrays = {
        f"weight_ih_l0{suffix}": call.array("kernel", *turned, *order),
        f"weight_hh_l0{suffix}": call.array("recurrent_kernel", *turned, *order),
    }
    if not call.has("bias"):
        return arrays
    shape = call.shape("bias")
    if len(shape) == 2:
        parts = [call.array("bias", Take(0, row, row + 1, drop=True), *order) for row in (0, 1)]
    else:
        parts = [call.array("bias", *order), Array((), (Fill(0.0, shape),))]
    is_own = kind == "gru" and not call.settings.get("reset_after", False)
    arrays[f"bias_ih_l0{suffix}"] = parts[0]
    return arrays if is_own else {**arrays, f"bias_hh_l0{suffix}": parts[1]}


def bidirectional(call: LayerCall) -> tuple[str, ...]:
    """Bidirectional: one layer of torch with both directions, joined as the wrapper's setting says."""
    forward, backward = (_inner(call, child) for child in call.layer.children)
    kind = _checked_kind(forward)
    settings = _layer_settings(forward, kind)
    if "kind" in settings:
        raise RefusedError("other activations than torch's, or a GRU that resets before its product")
    if forward.settings.get("go_backwards") or settings != _layer_settings(backward, kind):
        raise RefusedError("its two layers differ in more than their direction")
    if call.named.get("initial_state") is not None or forward.settings.get("return_state"):
        raise RefusedError("its states as inputs or outputs")
    arrays = {**_arrays(forward, kind, ""), **_arrays(backward, kind, "_reverse")}
    outputs = _called(call, kind, [call.x], arrays, {**settings, "bidirectional": True})
    hidden = settings["hidden"]
    if forward.settings.get("return_sequences"):
        if call.settings.get("merge_mode", "concat") == "concat":
            return (outputs[0],)
        ends = ((0, hidden), (hidden, None))
        halves = [call.step("slice", outputs[0], starts=(s,), ends=(e,), axes=(-1,)) for s, e in ends]
    else:
        halves = [call.step("index", outputs[1], axes=(0,), index=index) for index in (0, 1)]
    return _merged(call, halves)


def _inner(call: LayerCall, layer: KerasLayer) -> LayerCall:
    return replace(call, layer=layer)


def _merged(call: LayerCall, halves: list[str]) -> tuple[str, ...]:
    mode = call.settings.get("merge_mode", "concat")
    if mode == "concat":
        return (call.step("concat", *halves, axis=-1),)
    if mode == "ave":
        return (call.step("div", call.step("add", *halves), number(2.0)),)
    if mode in ("sum", "mul"):
        return (call.step({"sum": "add", "mul": "mul"}[mode], *halves),)
    raise RefusedError(f"its merge_mode {mode!r}")


# --- attention --------------------------------------------------------------------------------------------------------


def attention(call: LayerCall) -> str:
    """Attention of a query and a value: softmax(q · kᵀ) · v."""
    if call.named.get("use_causal_mask") or call.named.get("mask"):
        raise RefusedError("a mask")
    if call.settings.get("score_mode", "dot") != "dot":
        raise RefusedError(f"its score_mode {call.settings['score_mode']!r}")
    query, value = call.inputs[:2]
    key = call.inputs[2] if len(call.inputs) > 2 else value
    scores = call.step("matmul", query, call.step("permute", key, axes=(0, 2, 1)))
    if call.settings.get("use_scale"):
        leaf = "scale" if call.has("scale") else "0"
        scores = call.step("mul", scores, call.array(leaf))
    return call.step("matmul", call.step("softmax", scores, axis=-1), value)


def multi_head_attention(call: LayerCall) -> tuple[str, ...]:
    """MultiHeadAttention and GroupedQueryAttention over the axis of steps, (n, steps, d)."""
    settings, named = call.settings, call.named
    if settings.get("attention_axes") not in (None, [1]) or settings.get("output_shape") is not None:
        raise RefusedError("its attention_axes or output_shape")
    if named.get("return_attention_scores"):
        raise RefusedError("its scores as an output")
    values = [*call.inputs, *(value for value in call.rest if isinstance(value, str))]
    query = named.get("query", values[0] if values else None)
    value = named.get("value", values[1] if len(values) > 1 else query)
    key = named.get("key", values[2] if len(values) > 2 else value) or value
    heads = {part: _heads(call, part, source) for part, source in (("query", query), ("key", key), ("value", value))}
    groups = call.shape("query/kernel")[1] // call.shape("key/kernel")[1]
    if groups > 1:
        heads |= {part: call.step("repeat", heads[part], repeats=groups, axis=1) for part in ("key", "value")}
    inputs = [heads["query"], heads["key"], heads["value"]]
    mask = named.get("attention_mask")
    if isinstance(mask, str):
        inputs.append(call.step("cast", call.step("unsqueeze", mask, axes=(1,)), dtype="bool"))
    causal = {"is_causal": True} if named.get("use_causal_mask") else {}
    y = call.step("permute", call.step("attention", *inputs, **causal), axes=(0, 2, 1, 3))
    return (_output(call, y),)


def _heads(call: LayerCall, part: str, x: str) -> str:
    """(n, steps, d) → (n, heads, steps, size), by a dense layer."""
    inputs, heads, size = call.shape(f"{part}/kernel")
    flat = (Reshape((inputs, heads * size)), Transpose((1, 0), ("in", "out")))
    arrays = {"weight": call.array(f"{part}/kernel", *flat)}
    if call.has(f"{part}/bias"):
        arrays["bias"] = call.array(f"{part}/bias", Reshape((heads * size,)))
    y = call.builder.layer("linear", f"{call.path}/{part}", [x], arrays)
    return call.step("permute", call.step("unflatten", y, axis=-1, sizes=(heads, size)), axes=(0, 2, 1, 3))


def _output(call: LayerCall, x: str) -> str:
    heads, size, outputs = call.shape("attention_output/kernel")
    flat = (Reshape((heads * size, outputs)), Transpose((1, 0), ("in", "out")))
    arrays = {"weight": call.array("attention_output/kernel", *flat)}
    if call.has("attention_output/bias"):
        arrays["bias"] = call.array("attention_output/bias")
    y = call.step("flatten", x, start=2)
    return call.builder.layer("linear", f"{call.path}/attention_output", [y], arrays)
