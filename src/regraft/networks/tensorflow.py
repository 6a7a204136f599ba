"""The network of a TensorFlow graph: a `.meta` beside a checkpoint, a frozen `.pb`, a SavedModel, a model for JS.

Source: tensorflow/core/protobuf/{meta_graph,saved_model}.proto.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regraft.arrays import Checkpoint
from regraft.containers.json_text import json_value
from regraft.containers.protobuf import ProtobufFile, Value, field_bytes, field_text, grouped, last_bytes
from regraft.containers.spans import whole_file
from regraft.errors import CheckpointError
from regraft.formats.tensor_bundle import DTYPES
from regraft.formats.tensor_proto import proto_values
from regraft.formats.tensorflow_nodes import tensor_dtype_and_shape
from regraft.formats.tensorflow_program import GraphProgram, ProgramOperation, program_of_graph, program_of_json
from regraft.networks.network import Network, NetworkInput, nodes_needed
from regraft.networks.tensorflow_choices import taken_inputs
from regraft.networks.tensorflow_constants import MOST_NUMBERS
from regraft.networks.tensorflow_ends import entry_of, is_training_switch, outputs_of
from regraft.networks.tensorflow_inlining import inlined, whole_variables
from regraft.networks.tensorflow_restoring import restored_names
from regraft.networks.tensorflow_table import TABLE
from regraft.networks.tensorflow_translation import TensorFlowTranslation, walk

_SERVING = "serving_default"


@dataclass(frozen=True)
class _Graph:
    """A graph with what its file says of its ends.

    outputs  values, in order; none when the file does not say
    """

    program: GraphProgram
    outputs: tuple[str, ...] = ()
    name: str = ""


def network_of_tensorflow(checkpoint: Checkpoint) -> Network | None:
    """What the graph describes; None for a checkpoint without one.

    checkpoint  a TF1 checkpoint, a SavedModel, a frozen graph or a TensorFlow.js graph model
    """
    graph = _graph_of(checkpoint)
    if graph is None:
        return None
    try:
        return _network(checkpoint, graph)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}.") from error


def _network(checkpoint: Checkpoint, graph: _Graph) -> Network:
    operations = inlined(graph.program)
    outputs = list(graph.outputs) or outputs_of(operations)
    arrays = {**_arrays(checkpoint, operations), **_joined(checkpoint, operations)}
    if checkpoint.format == "savedmodel":
        arrays |= restored_names(checkpoint, operations)
    translation = TensorFlowTranslation(
        checkpoint, operations, arrays, lambda name: _constant(checkpoint, operations, arrays, name), TABLE
    )
    order, entries = _ordered(translation, outputs)
    translation.dtypes.update({entry.name: entry.dtype for entry in entries})
    walk(translation, order, outputs)
    draft = translation.draft
    nodes = nodes_needed(draft.nodes, outputs)
    taken = {value for node in nodes for value in node.values}
    used = tuple(entry for entry in entries if entry.name in taken) or tuple(entries)
    notes = list(draft.notes)
    if not graph.outputs:
        notes.append(f"The graph does not name its outputs. Taken: {', '.join(outputs[:5])}.")
    return Network(
        used, nodes, tuple(outputs), name=graph.name or checkpoint.path.stem, notes=tuple(notes),
        untranslated=tuple(draft.untranslated),
    )  # fmt: skip


# --- files ------------------------------------------------------------------------------------------------------------


def _graph_of(checkpoint: Checkpoint) -> _Graph | None:
    """The graph of the file, by the format of the checkpoint."""
    if checkpoint.format == "tfjs":
        return _of_json(checkpoint)
    if checkpoint.format == "tensorflow-frozen":
        return _Graph(program_of_graph(ProtobufFile(checkpoint.path).whole))
    program = next((path for path in checkpoint.files if path.suffix == ".meta" or path.name == "saved_model.pb"), None)
    if program is None:
        return None
    content = ProtobufFile(program).whole
    return _of_meta(field_bytes(grouped(content)[2][0]) if program.name == "saved_model.pb" else content)


def _of_meta(message: memoryview) -> _Graph:
    """A MetaGraphDef: its graph, and the outputs of the signature for serving."""
    values = grouped(message)
    signatures: dict[str, memoryview] = {}
    for value in values[5]:
        pair = grouped(field_bytes(value))
        signatures[field_text(last_bytes(pair[1]))] = last_bytes(pair[2])
    usual = [name for name in signatures if not name.startswith("__")]
    name = _SERVING if _SERVING in signatures else next(iter(usual), "")
    outputs = _tensors(grouped(signatures[name])[2]) if name else []
    return _Graph(program_of_graph(last_bytes(values[2])), tuple(outputs))


def _tensors(messages: Sequence[Value]) -> list[str]:
    """The values of a signature, in the order of their keys."""
    named: dict[str, str] = {}
    for message in messages:
        pair = grouped(field_bytes(message))
        info = grouped(last_bytes(pair[2]))
        named[field_text(last_bytes(pair[1]))] = field_text(last_bytes(info[1]))
    return [_value(named[key]) for key in sorted(named)]


def _of_json(checkpoint: Checkpoint) -> _Graph | None:
    """A graph model of TensorFlow.js; its order of outputs is that of the signature."""
    content = json_value(whole_file(checkpoint.path).read(), checkpoint.path)
    model = content if isinstance(content, dict) else {}
    topology = model.get("modelTopology")
    if not isinstance(topology, dict) or "node" not in topology:
        return None
    signature = model.get("signature") or (model.get("userDefinedMetadata") or {}).get("signature") or {}
    outputs = [_value(str(output.get("name", key))) for key, output in (signature.get("outputs") or {}).items()]
    program = program_of_json(topology)
    return _Graph(program, tuple(outputs) or tuple(_unused(program)))


def _unused(program: GraphProgram) -> list[str]:
    """What no operation takes: the outputs of a model without a signature."""
    taken = {value.partition(":")[0] for operation in program.operations.values() for value in operation.inputs}
    skipped = ("Const", "Placeholder", "NoOp")
    return [name for name, item in program.operations.items() if name not in taken and item.op not in skipped]


def _value(name: str) -> str:
    return name.removesuffix(":0")


# --- arrays and constants ---------------------------------------------------------------------------------------------


def _arrays(checkpoint: Checkpoint, operations: Mapping[str, ProgramOperation]) -> dict[str, str]:
    """Operation that gives an array of the checkpoint → its name there."""
    arrays: dict[str, str] = {}
    for name, operation in operations.items():
        if operation.op in ("VariableV2", "Variable", "VarHandleOp", "Const"):
            shared = str(operation.settings.get("shared_name") or "")
            wanted = [name, shared, name.rpartition("/")[2]] if operation.op != "Const" else [name]
            found = next((word for word in wanted if word and word in checkpoint), None)
            arrays |= {name: found} if found is not None else {}
    return arrays


def _joined(checkpoint: Checkpoint, operations: Mapping[str, ProgramOperation]) -> dict[str, str]:
    """Operation that joins a partitioned variable → the variable, which the checkpoint holds whole."""
    return {name: whole for name, whole in whole_variables(operations).items() if whole in checkpoint}


def _constant(
    checkpoint: Checkpoint, operations: Mapping[str, ProgramOperation], arrays: Mapping[str, str], name: str
) -> np.ndarray | None:
    """The numbers of a small constant of the graph."""
    operation = operations.get(name)
    if operation is None or operation.op != "Const":
        return None
    tensor = operation.settings.get("value")
    if isinstance(tensor, memoryview):
        return _numbers(tensor)
    shown = arrays.get(name)
    return checkpoint.read(shown) if shown is not None and checkpoint[shown].count <= MOST_NUMBERS else None


def _numbers(tensor: memoryview) -> np.ndarray | None:
    number, shape = tensor_dtype_and_shape(tensor)
    dtype = DTYPES.get(number, "")
    if dtype in ("", "string", "resource", "variant") or np.prod(shape, dtype=np.float64) > MOST_NUMBERS:
        return None
    try:
        return proto_values(tensor, dtype, shape, repeats=True)
    except CheckpointError:
        return None


# --- order ------------------------------------------------------------------------------------------------------------


def _ordered(
    translation: TensorFlowTranslation, outputs: Sequence[str]
) -> tuple[list[ProgramOperation], list[NetworkInput]]:
    """(the operations that the outputs need, each after those that it takes; the inputs of the network)."""
    operations, arrays = translation.operations, translation.arrays
    order: dict[str, ProgramOperation] = {}
    entries: dict[str, NetworkInput] = {}
    entered: set[str] = set()
    waiting = [output.partition(":")[0] for output in reversed(outputs)]
    while waiting:
        name = waiting[-1]
        operation = operations.get(name)
        entry = None if operation is None else _entry(operations, operation)
        if entry is not None:
            entries.setdefault(name, entry)
        before = (
            _before(translation, operation, entered)
            if operation is not None and entry is None and name not in arrays
            else []
        )
        entered.add(name)
        waiting += before
        if not before:
            waiting.pop()
            if operation is not None and entry is None and name not in order:
                order[name] = operation
    return list(order.values()), list(entries.values())


def _entry(operations: Mapping[str, ProgramOperation], operation: ProgramOperation) -> NetworkInput | None:
    """The input that an operation is, also one with axes that stands for itself when nothing is fed."""
    if is_training_switch(operation):
        return None
    default = operations.get(operation.inputs[0]) if operation.op == "PlaceholderWithDefault" else None
    shape = operation.settings.get("shape")
    if default is not None and default.op == "Const" and shape:
        return NetworkInput(operation.name, tuple(shape), str(operation.settings.get("dtype") or "float32"))
    return entry_of(operation)


def _before(translation: TensorFlowTranslation, operation: ProgramOperation, entered: set[str]) -> list[str]:
    """The operations that it takes and that have not been entered; of branches the one that counts in use."""
    names = [value.partition(":")[0] for value in taken_inputs(translation, operation)]
    return [name for name in dict.fromkeys(reversed(names)) if name not in entered]
