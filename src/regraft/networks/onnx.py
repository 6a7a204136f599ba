"""The network of an ONNX file: its graph, walked node by node, in the words of `network`."""

from collections.abc import Mapping
from pathlib import Path

from regraft.arrays import Checkpoint
from regraft.containers.protobuf import ProtobufFile
from regraft.formats.onnx_graph import find_layers, readable_names
from regraft.formats.onnx_nodes import read_graph
from regraft.formats.onnx_tensors import DTYPES
from regraft.networks.network import Network, NetworkInput, Untranslated, nodes_needed
from regraft.networks.onnx_branches import BRANCHES
from regraft.networks.onnx_layers import LAYERS
from regraft.networks.onnx_maps import MAPS
from regraft.networks.onnx_numbers import NUMBERS
from regraft.networks.onnx_quantised import QUANTISED, note_scales
from regraft.networks.onnx_recurrent import RECURRENT
from regraft.networks.onnx_shapes import SHAPES
from regraft.networks.onnx_translation import Translate, Translation, walk

_TABLE: Mapping[str, Translate] = {
    **NUMBERS, **SHAPES, **MAPS, **LAYERS, **RECURRENT, **QUANTISED, **BRANCHES
}  # fmt: skip


def network_of_onnx(checkpoint: Checkpoint) -> Network:
    """What the file describes. A node without translation is listed in `untranslated`, and the others go on.

    checkpoint  an opened ONNX file
    """
    file = ProtobufFile(Path(checkpoint.path))
    model = file.message(file.whole)
    graph = read_graph(file, model)
    layers = find_layers(graph)
    opsets = [file.message(value) for value in model[8]]
    versions = [file.integer(opset[2]) for opset in opsets if file.text(opset[1]) in ("", "ai.onnx")]
    translation = Translation(
        graph, checkpoint, max(versions, default=1), _TABLE,
        {layer.node.outputs[0]: layer for layer in layers if layer.node.outputs}, readable_names(layers, graph),
        frozenset(graph.body.outputs),
    )  # fmt: skip
    entries = tuple(_entry(translation, *entry) for entry in graph.body.inputs)
    note_scales(translation)
    walk(translation, graph.body)
    return Network(
        entries, nodes_needed(translation.draft.nodes, graph.body.outputs), tuple(graph.body.outputs),
        name=file.text(file.message(model[7][-1])[2]), notes=tuple(translation.draft.notes),
        untranslated=tuple(translation.draft.untranslated),
    )  # fmt: skip


def _entry(translation: Translation, name: str, kind: int, sizes: list[int | None]) -> NetworkInput:
    """One input. Halves are computed as float32; texts have no translation."""
    dtype = DTYPES.get(kind, "")
    if not dtype:
        translation.draft.untranslated.append(Untranslated("input", name, "it is no tensor of numbers"))
    translation.dtypes[name] = dtype
    return NetworkInput(name, tuple(sizes), translation.dtype(name))
