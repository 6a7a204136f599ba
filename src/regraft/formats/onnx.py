"""ONNX models, read without onnx: the graph is walked where it lies, initializers are read when they are asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import final

from regraft.arrays import ArrayInfo, Checkpoint, Requirement, Role
from regraft.containers.protobuf import BYTES, VARINT, ProtobufFile, looks_like
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.onnx_graph import Layer, find_layers, readable_names, used_as_number
from regraft.formats.onnx_nodes import Graph, read_graph, upstream
from regraft.formats.onnx_quantised import Dequantised
from regraft.formats.onnx_tensors import files_of
from regraft.formats.onnx_wiring import wiring

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
            raise CheckpointError(f"{path}: the graph holds no tensors: its weights are inputs. Export it with them.")
        try:
            requirements = (*_requirements(graph, layers), *wiring(graph, layers))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}. The file is damaged.") from error
        original = {readable: name for name, readable in names.items()}
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=infos,
            reader=lambda name: graph.tensors[original[name]].read(),
            files=tuple(dict.fromkeys((path, *files_of([graph.tensors[original[name]] for name in infos])))),
            requirements=requirements, notes=_notes(graph),
        )  # fmt: skip


def _infos(graph: Graph, layers: list[Layer], names: dict[str, str]) -> dict[str, ArrayInfo]:
    """The arrays of the layers in order, then all others; a Constant node counts only as a layer's weight."""
    infos: dict[str, ArrayInfo] = {}
    for layer in layers:
        for leaf, name in layer.weights.items():
            tensor = graph.tensors[name]
            notes = [f"the file calls it {name!r}"] if names[name] != name else []
            notes += [_FOLDED] if _is_folded(layer) else []
            notes += [tensor.note] if isinstance(tensor, Dequantised) else []
            infos[names[name]] = ArrayInfo(
                tensor.shape, tensor.dtype, layer=layer.name, leaf=leaf, layer_type=layer.node.operator,
                note="; ".join(notes),
            )  # fmt: skip
    for name, tensor in graph.tensors.items():
        if names[name] not in infos and name not in graph.constants:
            role: Role = "constant" if used_as_number(graph, name) else "weight"
            note = tensor.note if isinstance(tensor, Dequantised) else ""
            infos[names[name]] = ArrayInfo(tensor.shape, tensor.dtype, role, note=note)
    return infos


def _notes(graph: Graph) -> tuple[str, ...]:
    """What a user must know of the whole file."""
    skipped = f"{len(graph.skipped)} tensors are texts or of two bits and are left out: {', '.join(graph.skipped[:5])}."
    packed = sum(isinstance(tensor, Dequantised) for tensor in graph.tensors.values())
    told = f"{packed} arrays are quantised: their values are near those of the original."
    return (skipped,) * bool(graph.skipped) + (told,) * bool(packed)


def _is_folded(layer: Layer) -> bool:
    """Whether the exporter's made-up name betrays that a batch-norm was folded in: torch's and tf2onnx' do."""
    name = layer.weights.get("weight", "")
    return layer.node.operator.startswith("Conv") and (name.startswith("onnx::Conv") or "fused_bn" in name)


def _requirements(graph: Graph, layers: list[Layer]) -> Iterator[Requirement]:
    """What the nodes say of their weights."""
    for layer in layers:
        facts = {**_facts(graph, layer), **layer.told, **_flattened(graph, layer)}
        yield from (Requirement(layer.name, attribute, value) for attribute, value in facts.items())


def _facts(graph: Graph, layer: Layer) -> dict[str, object]:
    """One node's attributes, with ONNX's defaults where it leaves them out."""
    node, kind = layer.node, layer.node.operator
    facts: dict[str, object] = {}
    if kind in ("Conv", "ConvTranspose"):
        facts = _convolution(graph, layer)
    elif kind in ("Gemm", "MatMul"):
        facts = {"use_bias": "bias" in layer.weights}
        facts |= {"kernel_axes": layer.kernel_axes} if layer.kernel_axes else {}
        scales = {"alpha": graph.real(node, "alpha", 1.0), "beta": graph.real(node, "beta", 1.0)}
        facts |= {key: value for key, value in scales.items() if value != 1.0}
    elif kind.endswith("Normalization"):
        facts = {"eps": graph.real(node, "epsilon", 1e-5)}
        if kind == "BatchNormalization":
            facts["momentum"] = graph.real(node, "momentum", 0.9)
        if kind == "GroupNormalization":
            facts["groups"] = graph.integer(node, "num_groups", 1)
    elif kind in _GATES:
        facts = {"gate_order": _GATES[kind], "use_bias": "B" in layer.weights}
        facts["direction"] = graph.text(node, "direction", "forward")
        if kind == "GRU":
            facts["reset_after"] = graph.integer(node, "linear_before_reset", 0) == 1
        facts["go_backwards"] = facts["direction"] == "reverse"
        if activations := graph.texts(node, "activations"):
            facts["activations"] = activations
            words = ("activation",) if kind == "RNN" else ("recurrent_activation", "activation")
            facts |= {word: one.lower() for word, one in zip(words, activations, strict=False)}
    if kind in ("Conv", "ConvTranspose") and _is_folded(layer):
        facts["folded_batch_norm"] = True
    return facts


def _convolution(graph: Graph, layer: Layer) -> dict[str, object]:
    """Strides, padding, dilation and groups, one number for each spatial axis."""
    node = layer.node
    rank = len(graph.tensors[layer.weights["weight"]].shape) - 2 if "weight" in layer.weights else 2
    pads = graph.integers(node, "pads") or [0] * (2 * rank)
    if len(pads) % 2:
        raise CheckpointError(f"the convolution {layer.name} has {len(pads)} pads, expected two for each axis")
    automatic = graph.text(node, "auto_pad", "NOTSET")
    facts: dict[str, object] = {
        "padding": {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}.get(
            automatic, [[low, high] for low, high in zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)]
        ),
        "strides": graph.integers(node, "strides") or [1] * rank,
        "dilation": graph.integers(node, "dilations") or [1] * rank,
        "groups": graph.integer(node, "group", 1),
        "use_bias": "bias" in layer.weights,
    }
    if node.operator == "ConvTranspose" and (extra := graph.integers(node, "output_padding")):
        facts["output_padding"] = extra
    return facts


def _flattened(graph: Graph, layer: Layer) -> dict[str, object]:
    """In which order a feature map was flattened before a dense layer: ONNX is channels-first unless it transposes."""
    if layer.node.operator not in ("Gemm", "MatMul"):
        return {}
    nodes = list(upstream(graph, layer.node, _KEEPS_ORDER))
    if not nodes or nodes[-1].operator not in ("Flatten", "Reshape"):
        return {}
    before = list(upstream(graph, nodes[-1], _KEEPS_AXES))
    last = before[-1] if before else None
    if last is not None and last.operator == "Transpose":
        if graph.integers(last, "perm") == [0, 3, 1, 2]:
            return {"flatten_order": "channels_first"}  # back from (h, w, c), as torch's own permute does
        if graph.integers(last, "perm") not in ([0, 2, 3, 1], [0, 2, 1]):
            return {"flatten_order": "permuted"}
        filters = next((n for n in upstream(graph, last, _KEEPS_AXES) if n.operator == "Conv"), None)
        weight = graph.tensors.get(filters.inputs[1]) if filters and len(filters.inputs) > 1 else None
        return {"flatten_order": "channels_last"} | ({"flatten_channels": weight.shape[0]} if weight else {})
    is_map = last is not None and last.operator in (*_KEEPS_AXES, "Conv", "ConvTranspose")
    return {"flatten_order": "channels_first"} if is_map else {}
