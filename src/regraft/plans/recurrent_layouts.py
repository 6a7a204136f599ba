"""How frameworks store recurrent cells and attention: gates in another order, biases apart, heads as axes of their own.

torch's recurrent layers hold gates i f g o (LSTM) and r z n (GRU) as rows of one matrix, with two biases.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from regraft.errors import PlanError
from regraft.operations.changes import AddTo, Pad
from regraft.operations.joins import Concatenate, ConcatenateAround, Fill
from regraft.operations.moves import Gates, Reshape, Take, Transpose
from regraft.operations.operation import Operation, Shape
from regraft.plans.layers import Layer

Facts = Mapping[str, object]
Operations = Callable[[Sequence[Shape], Facts], tuple[Operation, ...]]


@dataclass(frozen=True)
class LeafRule:
    """How one array of ours is made of theirs.

    sources     one pattern for each source, for its name below the layer ("kernel", "lstm_cell.kernel"); none: a value
                that the source framework leaves out, filled in when every array of the source layer is understood
    operations  given the sources' shapes and what the file records of the source layer; raises PlanError, with what to
                do, where torch's layer cannot express it or the file leaves the axes open
    note        said in the plan
    """

    sources: tuple[str, ...]
    operations: Operations
    note: str = ""


Rules = dict[str, tuple[LeafRule, ...]]

# Block k of torch's gates is block ORDERS[word][k] of theirs. c, g, j and the GRU's h and n name the candidate.
ORDERS: dict[str, tuple[int, ...]] = {
    "ifco": (0, 1, 2, 3), "ifgo": (0, 1, 2, 3), "iofc": (0, 2, 3, 1), "ijfo": (0, 2, 1, 3), "ifoc": (0, 1, 3, 2),
    "zrh": (1, 0, 2), "rzn": (0, 1, 2), "rzh": (0, 1, 2), "i": (0,),
}  # fmt: skip
_STORED = {
    ("tensorflow", "lstm"): "ifco", ("tensorflow", "gru"): "zrh", ("tensorflow", "rnn"): "i",
    ("onnx", "lstm"): "iofc", ("onnx", "gru"): "zrh", ("onnx", "rnn"): "i",
    ("ncnn", "lstm"): "ifoc", ("coreml", "lstm"): "ifoc",
    ("mxnet", "lstm"): "ifco", ("mxnet", "gru"): "rzn", ("mxnet", "rnn"): "i",
}  # fmt: skip
_CELL = r"(?:[^.]*cell[^.]*\.)*"
_BEFORE = (
    "This GRU resets before the product (reset_after=False), which torch's GRU cannot express.\n"
    "Replace the layer by regraft.tf_layers.ResetBeforeGRU, which takes the same arrays."
)


def recurrent_rules(layout: str, layer: Layer) -> Rules:
    """Leaf of ours → rules that make it, for nn.LSTM, nn.GRU, nn.RNN and their cells: first layer, both directions."""
    if layout == "flax":
        return _flax_rules(layer)
    if (layout, layer.kind) not in _STORED:
        return {}
    both = bool(layer.settings.get("bidirectional"))
    rules: Rules = {}
    for leaf in layer.arrays:
        base, is_reverse = leaf.removesuffix("_reverse").removesuffix("_l0"), leaf.endswith("_reverse")
        if base not in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            continue  # a second layer: the source framework has a layer of its own for it
        side = (r"backward[^.]*\." if is_reverse else r"forward[^.]*\.") if both and layout == "tensorflow" else ""
        rules[leaf] = (*_MAKERS[layout](layer, base, side, int(is_reverse)), *_no_bias(layer, leaf))
    return rules


def _no_bias(layer: Layer, leaf: str) -> tuple[LeafRule, ...]:
    """A bias that the source layer does not have is 0."""
    if not leaf.startswith("bias"):
        return ()
    return (LeafRule((), lambda shapes, facts: (Fill(0.0, layer.arrays[leaf].shape),), "the source has one bias less"),)


def _gates(layout: str, layer: Layer, facts: Facts) -> tuple[Operation, ...]:
    """The gates in torch's order, from the file's own word where it has one."""
    usual = _STORED[layout, layer.kind]
    words = str(facts.get("gate_order") or usual)
    if words not in ORDERS or len(ORDERS[words]) != len(ORDERS[usual]):
        raise PlanError(f"gates in the order {words!r} are not known for {layer.class_name}")
    return () if ORDERS[words] == tuple(range(len(words))) else (Gates(0, ORDERS[words], words),)


def _sizes(layer: Layer) -> tuple[int, int]:
    """(inputs, hidden) of the layer, of its first layer where it has several."""
    first = {leaf.removesuffix("_l0"): array.shape for leaf, array in layer.arrays.items()}
    return first["weight_ih"][1], first["weight_hh"][1]


# --- TensorFlow and Keras: (in, gates), one bias -------------------------------------------------------------------


def _tensorflow_rules(layer: Layer, base: str, side: str, _: int) -> tuple[LeafRule, ...]:
    below = side + _CELL
    if base.startswith("bias"):
        # A GRU with reset_after keeps both biases as rows of one array; all others have one bias.
        has_row = base == "bias_ih" or layer.kind == "gru"
        return (LeafRule((below + "bias",), partial(_tensorflow_bias, layer, base)),) if has_row else ()
    whole = LeafRule((below + "kernel",), partial(_tensorflow_kernel, layer, base))
    if base == "weight_hh":
        return (LeafRule((below + "recurrent_kernel",), whole.operations), whole)
    return (whole,)


def _is_tf1(layer: Layer, facts: Facts) -> bool:
    """Whether one kernel takes inputs and state together, as TensorFlow 1's cells do."""
    leaves = facts.get("leaves")
    return isinstance(leaves, tuple) and not any(leaf.endswith("recurrent_kernel") for leaf in leaves)


def _tensorflow_kernel(layer: Layer, base: str, shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    turned = Transpose((1, 0), ("in", "gates"))
    if not _is_tf1(layer, facts):
        return (turned, *_gates("tensorflow", layer, facts))
    inputs, hidden = _sizes(layer)
    if layer.kind != "lstm" or shapes[0][0] != inputs + hidden:
        raise PlanError(f"{layer.class_name} needs a kernel for {inputs} inputs + {hidden} of state, got {shapes[0]}")
    part = Take(0, 0, inputs) if base == "weight_ih" else Take(0, inputs, inputs + hidden)
    return (part, turned, Gates(0, ORDERS["ijfo"], "ijfo"))


def _tensorflow_bias(layer: Layer, base: str, shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    if layer.kind == "gru" and layer.settings.get("reset_after", True):
        if len(shapes[0]) != 2 or facts.get("reset_after") is False:
            raise PlanError(_BEFORE)
        row = int(base == "bias_hh")
        return (Take(0, row, row + 1, drop=True), *_gates("tensorflow", layer, facts))
    if layer.kind == "lstm" and _is_tf1(layer, facts):
        hidden = _sizes(layer)[1]
        # TensorFlow 1's cells add forget_bias=1.0 in their code: it is not in the file.
        return (Gates(0, ORDERS["ijfo"], "ijfo"), AddTo(0, hidden, 2 * hidden, 1.0))
    return _gates("tensorflow", layer, facts)


# --- ONNX: (directions, gates, in), the two biases one after the other ----------------------------------------------


def _onnx_rules(layer: Layer, base: str, _: str, direction: int) -> tuple[LeafRule, ...]:
    source = {"weight_ih": "W", "weight_hh": "R"}.get(base, "B")

    def operations(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
        if layer.kind == "gru" and facts.get("reset_after") is False and layer.settings.get("reset_after", True):
            raise PlanError(_BEFORE)
        chosen = Take(0, direction, direction + 1, drop=True)
        if source != "B":
            return (chosen, *_gates("onnx", layer, facts))
        half = shapes[0][1] // 2
        part = Take(0, 0, half) if base == "bias_ih" else Take(0, half, 2 * half)
        return (chosen, part, *_gates("onnx", layer, facts))

    # A graph that cuts torch's own arrays as it runs keeps them whole, under torch's names.
    name = f"{base}_l0" + "_reverse" * direction
    return (LeafRule((source,), operations), LeafRule((name,), lambda _, facts: _gates("onnx", layer, facts)))


# --- MXNet: as torch, with other words ------------------------------------------------------------------------------


def _mxnet_rules(layer: Layer, base: str, _: str, direction: int) -> tuple[LeafRule, ...]:
    kind, part = base.split("_")
    side = r"(?:[rl]\d_)?" if not direction else r"r\d_"
    source = side + {"ih": "i2h", "hh": "h2h"}[part] + "_" + kind
    return (LeafRule((source,), lambda _, facts: _gates("mxnet", layer, facts)),)


# --- ncnn and Core ML: as torch, with one bias ----------------------------------------------------------------------


def _converted_rules(layout: str, layer: Layer, base: str, _: str, direction: int) -> tuple[LeafRule, ...]:
    """ncnn keeps both directions in one array, Core ML the second under names that end in _back."""
    if base == "bias_hh":
        return ()
    source = "bias" if base == "bias_ih" else base
    if layout == "coreml":
        parts = _COREML_GATES[base] if not direction else ()
        of_gates = LeafRule(parts, lambda shapes, facts: (Concatenate(0),))
        whole = LeafRule((source + "_back" * direction,), lambda _, facts: _gates(layout, layer, facts))
        return (whole, of_gates) if parts else (whole,)

    def operations(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
        return (Take(0, direction, direction + 1, drop=True), *_gates(layout, layer, facts))

    return (LeafRule((source,), operations),)


_BLOCKS = ("input", "forget", "blockInput", "output")  # in torch's order
_COREML_GATES = {
    base: tuple(f"{gate}Gate{word}" if gate != "blockInput" else f"blockInput{word}" for gate in _BLOCKS)
    for base, word in (("weight_ih", "WeightMatrix"), ("weight_hh", "RecursionMatrix"), ("bias_ih", "BiasVector"))
}

_MAKERS: dict[str, Callable[[Layer, str, str, int], tuple[LeafRule, ...]]] = {
    "tensorflow": _tensorflow_rules,
    "onnx": _onnx_rules,
    "mxnet": _mxnet_rules,
    "ncnn": partial(_converted_rules, "ncnn"),
    "coreml": partial(_converted_rules, "coreml"),
}


# --- Flax: a dense layer for each gate ------------------------------------------------------------------------------


def _flax_rules(layer: Layer) -> Rules:
    """Flax' cells: dense layers ii if ig io and hi hf hg ho; of the GRU ir iz in and hr hz hn."""
    if layer.kind not in ("lstm", "gru"):
        return {}
    rules: Rules = {}
    for leaf in layer.arrays:
        base = leaf.removesuffix("_l0")
        of_gates = _flax_gates(layer.kind, base, _sizes(layer)[1])
        rules[leaf] = (*of_gates, *_no_bias(layer, leaf))
    return rules


def _flax_gates(kind: str, base: str, hidden: int) -> tuple[LeafRule, ...]:
    """The arrays of the gates, one after the other. Only one of torch's two biases has gates of its own."""
    side, gates = ("i" if base.endswith("_ih") else "h"), ("ifgo" if kind == "lstm" else "rzn")
    if base.startswith("weight"):
        turned = (Transpose((1, 0), ("in", "out")), Concatenate(0))
        return (LeafRule(_of_gates(side, gates, "kernel"), lambda shapes, facts: turned),)
    if base == "bias_hh" and kind == "gru":
        return (LeafRule(_of_gates(side, "n", "bias"), lambda shapes, facts: (Pad(0, 2 * hidden, 0),)),)
    if base == ("bias_hh" if kind == "lstm" else "bias_ih"):
        return (LeafRule(_of_gates(side, gates, "bias"), lambda shapes, facts: (Concatenate(0),)),)
    return ()


def _of_gates(side: str, gates: str, leaf: str) -> tuple[str, ...]:
    return tuple(_CELL + rf"{side}{gate}\.{leaf}" for gate in gates)


# --- Attention ------------------------------------------------------------------------------------------------------

_PARTS = (r"(?:q|query)(?:_proj)?", r"(?:k|key)(?:_proj)?", r"(?:v|value)(?:_proj)?")
_OUT = r"(?:attention_output|out|out_proj|o_proj|output)"


def joined_projections(layer: Layer) -> Rules:
    """One dense layer from queries, keys and values below it (qkv.k_proj.bias), or from part1, part2 … of a rule.

    Models of one bias for queries and one for values (BEiT) have none for the keys: 0 is the same function.
    """
    rules: Rules = {"weight": _whole_of_parts("weight")}
    if "bias" in layer.arrays:
        size = layer.arrays["bias"].shape[0] // 3
        no_keys = LeafRule((rf"{_PARTS[0]}\.bias", rf"{_PARTS[2]}\.bias"), partial(_zero_keys, size))
        rules["bias"] = (*_whole_of_parts("bias"), no_keys)
    return rules


def _whole_of_parts(leaf: str) -> tuple[LeafRule, ...]:
    """Queries, keys and values, or parts that rename rules call part1, part2 …: the longest list counts."""
    numbered = [tuple(rf"part{number}\.{leaf}" for number in range(1, count + 1)) for count in (4, 3, 2)]
    return tuple(LeafRule(names, _joined) for names in (tuple(rf"{part}\.{leaf}" for part in _PARTS), *numbered))


def _joined(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    return (Concatenate(0),)


def _zero_keys(size: int, shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    return (ConcatenateAround(size),)


def attention_rules(layout: str, layer: Layer) -> Rules:
    """torch's nn.MultiheadAttention from three projections, whose heads may be axes of their own."""
    turns = layout in ("tensorflow", "flax", "tensorflow-or-flax")
    leaf = "kernel" if turns else "weight"
    return {
        "in_proj_weight": (LeafRule(tuple(f"{p}\\.{leaf}" for p in _PARTS), partial(_into_heads, turns)),),
        "in_proj_bias": (LeafRule(tuple(rf"{part}\.bias" for part in _PARTS), _flat_biases),),
        "out_proj.weight": (LeafRule((f"{_OUT}\\.{leaf}",), partial(_out_of_heads, turns)),),
        "out_proj.bias": (LeafRule((rf"{_OUT}\.bias",), lambda shapes, facts: ()),),
    }


def _into_heads(turns: bool, shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    """(in, heads, size) → (heads · size, in), three of them one below the other."""
    flat: tuple[Operation, ...] = ()
    if len(shapes[0]) == 3:
        if len(set(shapes)) > 1:
            raise PlanError(f"query, key and value have other sizes: {', '.join(map(str, shapes))}")
        flat = (Reshape((shapes[0][0], shapes[0][1] * shapes[0][2])),)
    return (*flat, *([Transpose((1, 0), ("in", "heads"))] if turns else []), Concatenate(0))


def _flat_biases(shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    flat = (Reshape((shapes[0][0] * shapes[0][1],)),) if len(shapes[0]) == 2 else ()
    return (*flat, Concatenate(0))


def _out_of_heads(turns: bool, shapes: Sequence[Shape], facts: Facts) -> tuple[Operation, ...]:
    """(heads, size, out) → (out, heads · size)."""
    shape = shapes[0]
    flat = (Reshape((shape[0] * shape[1], shape[2])),) if len(shape) == 3 else ()
    return (*flat, *([Transpose((1, 0), ("heads", "out"))] if turns else []))
