"""Where the network of a TensorFlow graph begins and ends: its inputs, and the values that it gives.

A graph that was saved in training holds losses, gradients, optimizers, summaries and savers, too; they are no part of
the network, and neither is what depends on the labels.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.network import NetworkInput

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
_IMAGES = ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif")
_SOURCES = ("Placeholder", "PlaceholderV2", "IteratorGetNext", "QueueDequeueV2", "QueueDequeueManyV2")
_LOSSES = {  # operation → the input that holds what the network gives
    "SparseSoftmaxCrossEntropyWithLogits": 0, "SoftmaxCrossEntropyWithLogits": 0, "InTopK": 0, "InTopKV2": 0,
    "L2Loss": 0,
}  # fmt: skip
_LAYERS = ("Conv", "MatMul", "Depthwise", "FusedBatchNorm", "GatherV2", "ResourceGather")
_ASIDE = ("Summary", "Assert", "Print", "Save", "Restore", "Assign", "Apply", "NoOp", "Const", "InTopK")
_TRAINING = ("is_training", "training", "phase_train", "learning_phase", "phase", "keep_prob", "rate")


def entry_of(operation: ProgramOperation) -> NetworkInput | None:
    """The input of the network that an operation is; None for all others and for texts.

    Decoding a picture is the caller's work: its result is the input.
    """
    if operation.op in _IMAGES:
        return NetworkInput(operation.name, (None, None, 3), "uint8")
    if operation.op not in _SOURCES:
        return None
    dtype = str(operation.settings.get("dtype") or _first(operation.settings.get("output_types")) or "float32")
    shape = operation.settings.get("shape")
    if shape is None:
        shape = _first(operation.settings.get("output_shapes"))
    is_text = dtype in ("string", "resource", "variant")
    return (
        None if is_text else NetworkInput(operation.name, tuple(shape or ()), "float32" if "float" in dtype else dtype)
    )


def _first(values: object) -> Any:
    return values[0] if isinstance(values, list) and values else None


def is_training_switch(operation: ProgramOperation) -> bool:
    """Whether a placeholder says if the network trains: it has no axes, and is a truth value or named so."""
    has_axes = bool(operation.settings.get("shape"))
    word = operation.name.rpartition("/")[2].lower()
    is_truth = operation.settings.get("dtype") == "bool"
    return operation.op.startswith("Placeholder") and not has_axes and (is_truth or word in _TRAINING)


def outputs_of(operations: Mapping[str, ProgramOperation]) -> list[str]:
    """The values that a graph without a signature gives: what its loss takes, else what nothing else takes."""
    forward = {name: operation for name, operation in operations.items() if not _is_of_training(name)}
    users: dict[str, list[str]] = {}
    for operation in forward.values():
        for value in operation.inputs:
            users.setdefault(value.partition(":")[0], []).append(operation.name)
    data = [operation.name for operation in forward.values() if _is_data(operation, forward, users)]
    reached = _reached(data, forward, users)
    labels = [name for name, operation in forward.items() if _is_source(operation) and name not in data]
    inside = reached - _reached(labels, forward, users)
    given = _taken_by_losses(forward, inside)
    return given or [name for name in forward if name in inside and _is_end(name, forward, users, inside)]


def _is_of_training(name: str) -> bool:
    parts = name.split("/")
    return any(part.startswith("gradients") or part in ("save", "train", "summaries", "Adam") for part in parts)


def _is_source(operation: ProgramOperation) -> bool:
    return entry_of(operation) is not None and not is_training_switch(operation)


def _is_data(
    operation: ProgramOperation, forward: Mapping[str, ProgramOperation], users: Mapping[str, Sequence[str]]
) -> bool:
    """Whether an input leads to a layer; labels lead to a loss alone."""
    if not _is_source(operation):
        return False
    reached = _reached([operation.name], forward, users)
    return any(any(word in forward[name].op for word in _LAYERS) for name in reached) or not _has_losses(forward)


def _has_losses(forward: Mapping[str, ProgramOperation]) -> bool:
    return any(operation.op in _LOSSES for operation in forward.values())


def _reached(
    starts: Collection[str], forward: Mapping[str, ProgramOperation], users: Mapping[str, Sequence[str]]
) -> set[str]:
    """All operations that depend on these, themselves included."""
    waiting, seen = list(starts), set(starts)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user not in seen and user in forward:
                seen.add(user)
                waiting.append(user)
    return seen


def _taken_by_losses(forward: Mapping[str, ProgramOperation], inside: set[str]) -> list[str]:
    """What losses compare with the labels, each once; through what only passes it on or gives it another shape."""
    taken: dict[str, None] = {}
    for operation in forward.values():
        place = _LOSSES.get(operation.op)
        if place is None or operation.name in inside or operation.op == "L2Loss":
            continue
        value = operation.inputs[place]
        before = forward.get(value.partition(":")[0])
        while before is not None and before.op in ("Reshape", "Identity", "StopGradient") and "xent" in before.name:
            value = before.inputs[0]
            before = forward.get(value.partition(":")[0])
        if value.partition(":")[0] in inside:
            taken[value] = None
    return list(taken)


def _is_end(
    name: str, forward: Mapping[str, ProgramOperation], users: Mapping[str, Sequence[str]], inside: set[str]
) -> bool:
    """Whether nothing of the network takes what an operation gives."""
    if any(word in forward[name].op for word in _ASIDE) or _is_source(forward[name]):
        return False
    takers = [user for user in users.get(name, ()) if user in inside]
    return all(any(word in forward[user].op for word in _ASIDE) for user in takers)
