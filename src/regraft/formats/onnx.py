"""ONNX models, read without onnx: the graph is walked where it lies, initializers are read when they are asked for."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import final

from regraft.arrays import ArrayInfo, Attribute, Checkpoint, Facts, Requirement, Role, requirements_for
from regraft.containers.protobuf import BYTES, VARINT, ProtobufFile, looks_like
from regraft.errors import CheckpointError
from regraft.formats.flattening import SPATIAL, flatten_facts
from regraft.formats.format import Format
from regraft.formats.onnx_graph import OnnxLayer, find_layers, is_setting, readable_names, used_as_number
from regraft.formats.onnx_nodes import OnnxGraph, OnnxNode, origin, read_graph, upstream
from regraft.formats.onnx_padding import padding_facts
from regraft.formats.onnx_quantised import Dequantised
from regraft.formats.onnx_tensors import files_of
from regraft.formats.onnx_wiring import onnx_wiring

_MODEL = {1: VARINT, 5: VARINT, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25), BYTES)}
_GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}
_KEEPS_ORDER = {
    "Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Clip", "Dropout", "Identity", "Cast", "PRelu",
    "BatchNormalization", "Softplus", "HardSwish", "HardSigmoid", "Add", "Mul", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
_KEEPS_AXES = _KEEPS_ORDER | {"MaxPool", "AveragePool", "Pad", "LRN", "Concat", "GlobalAveragePool", "GlobalMaxPool"}
_FOLDED = "batch-norm was folded into this convolution when the model was exported"


@final
class Onnx(Format):
    """`.onnx` files of any exporter, with values inside or in files beside them."""

    name = "onnx"
    layout = "onnx"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A ModelProto begins with a small IR version, and the producer's name or the graph follows."""
        fields = looks_like(head, _MODEL)
        if not fields or fields[0][0] != 1 or not 1 <= fields[0][1][0] < 64:
            return False
        texts = [raw for number, raw in fields if number in (2, 3, 4)]
        # TensorFlow's SavedModel begins alike; its field 2 is a message.
        return len(fields) > 1 and all(raw.decode("utf-8", "replace").isprintable() for raw in texts)

    def open(self, path: Path) -> Checkpoint:
        """The initializers: those of layers first, in the order of the graph, then the graph's own numbers."""
        file = ProtobufFile(path)
        model = file.message(file.whole)
        if not model[7]:
            raise CheckpointError(f"{path}: the model has no graph. It is cut short, or no ONNX model.")
        graph = read_graph(file, model)
        layers = find_layers(graph)
        names = readable_names(layers, graph)
        infos = _infos(graph, layers, names)
        if not infos:
            raise CheckpointError(f"{path}: {_without_tensors(graph)}")
        try:
            requirements = (*_requirements(graph, layers), *onnx_wiring(graph, layers))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}. The file is damaged.") from error
        original = {readable: name for name, readable in names.items()}
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos,
            reader=lambda name: graph.tensors[original[name]].read(),
            files=tuple(dict.fromkeys((path, *files_of([graph.tensors[original[name]] for name in infos])))),
            requirements=requirements, notes=_notes(graph),
        )  # fmt: skip


def _without_tensors(graph: OnnxGraph) -> str:
    """Why there is nothing to reuse."""
    others = sorted({node.operator for node in graph.nodes if node.domain == "ai.onnx.ml"})
    if others:
        return f"the graph holds no tensors: it is made of {', '.join(others)}, which have no layers to reuse."
    return "the graph holds no tensors: its weights are inputs. Export it with them."


def _infos(graph: OnnxGraph, layers: list[OnnxLayer], names: dict[str, str]) -> dict[str, ArrayInfo]:
    """The arrays of the layers in order, then all others but the settings of nodes: numbers and lists of axes."""
    infos: dict[str, ArrayInfo] = {}
    for layer in layers:
        for leaf, name in layer.weights.items():
            tensor = graph.tensors[name]
            infos[names[name]] = ArrayInfo(
                tensor.shape, tensor.dtype, layer=layer.name, leaf=leaf, layer_type=layer.node.operator,
                note=_note(graph, layer, name, names[name]),
            )  # fmt: skip
    for name, tensor in graph.tensors.items():
        if names[name] not in infos and not is_setting(graph, name):
            role: Role = "constant" if used_as_number(graph, name) else "weight"
            note = tensor.note if isinstance(tensor, Dequantised) else ""
            infos[names[name]] = ArrayInfo(tensor.shape, tensor.dtype, role, note=note)
    return infos


def _note(graph: OnnxGraph, layer: OnnxLayer, name: str, shown: str) -> str:
    """What a reader of the table should know of a layer's array."""
    tensor = graph.tensors[name]
    notes = [f"the file calls it {name!r}"] if shown != name else []
    notes += [_FOLDED] if _is_folded(layer) else []
    notes += [tensor.note] if isinstance(tensor, Dequantised) else []
    return "; ".join(notes)


def _notes(graph: OnnxGraph) -> tuple[str, ...]:
    """What a user must know of the whole file."""
    skipped = f"{len(graph.skipped)} tensors are texts or of two bits and are left out: {', '.join(graph.skipped[:5])}."
    packed = sum(isinstance(tensor, Dequantised) for tensor in graph.tensors.values())
    quantised = f"{packed} arrays are quantised: their values are near those of the original."
    return (skipped,) * bool(graph.skipped) + (quantised,) * bool(packed)


def _is_folded(layer: OnnxLayer) -> bool:
    """Whether the exporter's made-up name betrays that a batch-norm was folded in: torch's and tf2onnx' do."""
    name = layer.weights.get("weight", "")
    return layer.node.operator.startswith("Conv") and (name.startswith("onnx::Conv") or "fused_bn" in name)


def _requirements(graph: OnnxGraph, layers: list[OnnxLayer]) -> Iterator[Requirement]:
    """What the nodes say of their weights."""
    for layer in layers:
        facts = {**_facts(graph, layer), **layer.facts, **_flattened(graph, layer)}
        yield from requirements_for(layer.name, facts)


def _facts(graph: OnnxGraph, layer: OnnxLayer) -> Facts:
    """One node's attributes, with ONNX's defaults where it leaves them out."""
    kind = layer.node.operator
    if kind in ("Conv", "ConvTranspose"):
        return _convolution(graph, layer)
    if kind in ("Gemm", "MatMul"):
        return _product(graph, layer)
    if kind.endswith("Normalization"):
        return _norm(graph, layer)
    return _recurrent(graph, layer) if kind in _GATES else {}


def _product(graph: OnnxGraph, layer: OnnxLayer) -> Facts:
    facts: Facts = {"use_bias": "bias" in layer.weights}
    facts |= {"kernel_axes": layer.kernel_axes} if layer.kernel_axes else {}
    names: tuple[Attribute, ...] = ("alpha", "beta")
    facts |= {name: value for name in names if (value := graph.real(layer.node, name, 1.0)) != 1.0}
    return facts


def _norm(graph: OnnxGraph, layer: OnnxLayer) -> Facts:
    facts: Facts = {"eps": graph.real(layer.node, "epsilon", 1e-5)}
    if layer.node.operator == "BatchNormalization":
        facts["momentum"] = graph.real(layer.node, "momentum", 0.9)
    if layer.node.operator == "GroupNormalization":
        facts["groups"] = graph.integer(layer.node, "num_groups", 1)
    return facts


def _recurrent(graph: OnnxGraph, layer: OnnxLayer) -> Facts:
    node, kind = layer.node, layer.node.operator
    direction = graph.text(node, "direction", "forward")
    facts: Facts = {
        "gate_order": _GATES[kind], "use_bias": "B" in layer.weights, "direction": direction,
        "go_backwards": direction == "reverse",
    }  # fmt: skip
    if kind == "GRU":
        facts["reset_after"] = graph.integer(node, "linear_before_reset", 0) == 1
    if activations := graph.texts(node, "activations"):
        facts["activations"] = activations
        words: list[Attribute] = ["activation"] if kind == "RNN" else ["recurrent_activation", "activation"]
        facts |= {word: activation.lower() for word, activation in zip(words, activations, strict=False)}
    return facts


def _convolution(graph: OnnxGraph, layer: OnnxLayer) -> Facts:
    """Strides, padding, dilation and groups, one number for each axis of space."""
    node = layer.node
    rank = len(graph.tensors[layer.weights["weight"]].shape) - 2 if "weight" in layer.weights else 2
    facts: Facts = {
        **padding_facts(graph, node, rank),
        "strides": graph.integers(node, "strides") or [1] * rank,
        "dilation": graph.integers(node, "dilations") or [1] * rank,
        "groups": graph.integer(node, "group", 1),
        "use_bias": "bias" in layer.weights,
    }
    if node.operator == "ConvTranspose" and (extra := graph.integers(node, "output_padding")):
        facts["output_padding"] = extra
    return facts | ({"folded_batch_norm": True} if _is_folded(layer) else {})


def _flattened(graph: OnnxGraph, layer: OnnxLayer) -> Facts:
    """In which order a feature map was flattened before a dense layer: ONNX is channels-first unless it transposes."""
    if layer.node.operator not in ("Gemm", "MatMul"):
        return {}
    nodes = list(upstream(graph, layer.node, _KEEPS_ORDER))
    if not nodes or not _flattens_a_map(graph, nodes[-1]):
        return {}
    before = list(upstream(graph, nodes[-1], _KEEPS_AXES))
    last = before[-1] if before else None
    if last is None or last.operator not in ("Transpose", *_KEEPS_AXES, "Conv", "ConvTranspose"):
        return {}
    if last.operator != "Transpose":
        return flatten_facts(["c", *SPATIAL[2]], [], None)
    return _transposed(graph, last)


def _transposed(graph: OnnxGraph, node: OnnxNode) -> Facts:
    """The order of a map that a Transpose gives, behind which it is flattened."""
    order = graph.integers(node, "perm")
    if order == [0, 3, 1, 2]:  # back from (h, w, c), as torch's own permute does
        return flatten_facts(["c", *SPATIAL[2]], [], None)
    if order[:1] != [0] or sorted(order) != list(range(len(order))) or len(order) - 2 not in SPATIAL:
        return flatten_facts(["?"], [], None)
    axes = ["", "c", *SPATIAL[len(order) - 2]]
    return flatten_facts([axes[number] for number in order[1:]], [], _channels_before(graph, node))


def _channels_before(graph: OnnxGraph, node: OnnxNode) -> int | None:
    """How many channels the convolution gives whose map a node takes; None when they are not known."""
    filters = next((before for before in upstream(graph, node, _KEEPS_AXES) if before.operator == "Conv"), None)
    weight = graph.tensors.get(filters.input(1)) if filters else None
    return weight.shape[0] if weight is not None and weight.shape else None


def _flattens_a_map(graph: OnnxGraph, node: OnnxNode) -> bool:
    """Whether a node puts all axes but the batch into one; merging the heads of an attention keeps the tokens apart."""
    if node.operator == "Flatten":
        return True
    if node.operator != "Reshape" or len(node.inputs) < 2:
        return False
    shape = graph.tensors.get(origin(graph, node.inputs[1])[0])
    if shape is not None:
        return prod(shape.shape) <= 2
    computed = graph.before(node, 1, operator="Concat")
    return computed is None or len(computed.inputs) <= 2
