"""The choices of a TensorFlow graph between training and use: Switch and Merge, as the network is used.

Where the graph records it, dropout becomes a layer that works in training, and a batch-norm one that then takes the
statistics of the batch, as torch's own do.
Source: tensorflow/core/ops/control_flow_ops.cc; tensorflow/python/ops/nn_ops.py (dropout).
"""

from collections.abc import Mapping

import numpy as np

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import UnsupportedError, decimal
from regraft.networks.tensorflow_ends import is_training_switch
from regraft.networks.tensorflow_translation import TensorFlowTranslation, Translate

_DEEPEST = 64
_RANDOM = ("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2")


def _switch(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """Both outputs are the input; which branch counts is decided where they meet."""
    for place in (0, 1):
        output = translation.output(operation, place)
        translation.alias(output, translation.value(operation.inputs[0]))
        translation.known[output] = translation.constant(operation.inputs[0])


def _merge(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    chosen, others = chosen_input(translation, operation)
    value = translation.value(chosen)
    share = next((share for other in others if (share := dropped_share(translation, other)) is not None), None)
    if share is not None and isinstance(value, str):
        translation.layer(_without_end(operation), "dropout", [value], operation.name, {}, p=share)
    else:
        translation.alias(operation.name, value)


def _without_end(operation: ProgramOperation) -> ProgramOperation:
    """The operation under the name of its scope: "drop1/cond/Merge" is the layer "drop1"."""
    name = operation.name.rpartition("/")[0].removesuffix("/cond") or operation.name
    return ProgramOperation(operation.op, f"{name}/dropout" if name == operation.name else name, operation.inputs, {})


def chosen_input(translation: TensorFlowTranslation, merge: ProgramOperation) -> tuple[str, list[str]]:
    """(the input of a Merge that counts when the network is used, the others)."""
    for value in merge.inputs:
        found = _branch(translation, value)
        if found is None:
            continue
        predicate, is_true = found
        truth = truth_of(translation, predicate)
        if truth is not None and truth == is_true:
            return value, [other for other in merge.inputs if other != value]
    raise UnsupportedError("its condition is computed as the network runs, or it is a loop")


def taken_inputs(translation: TensorFlowTranslation, operation: ProgramOperation) -> tuple[str, ...]:
    """The inputs that an operation needs when the network is used: of a Merge one, of a Switch the value alone."""
    if operation.op == "Switch":
        return operation.inputs[:1]
    try:
        return (chosen_input(translation, operation)[0],) if operation.op == "Merge" else operation.inputs
    except UnsupportedError:
        return operation.inputs


def _branch(translation: TensorFlowTranslation, value: str) -> tuple[str, bool] | None:
    """(the condition, whether it holds) of the branch that gives a value; None when it is in no branch."""
    waiting, seen = [value], {value}
    while waiting and len(seen) < 4096:
        name, _, place = waiting.pop(0).partition(":")
        operation = translation.operations.get(name)
        if operation is None:
            continue
        if operation.op == "Switch":
            return operation.inputs[1], place == "1"
        more = [source for source in operation.inputs if source not in seen]
        seen.update(more)
        waiting += more
    return None


def truth_of(translation: TensorFlowTranslation, name: str, depth: int = 0) -> bool | None:
    """Whether a condition holds when the network is used; None when that is not known."""
    operation = translation.operations.get(name.partition(":")[0])
    if operation is None or depth > _DEEPEST:
        return None
    if is_training_switch(operation):
        return False
    constant = translation.constant(name)
    if constant is not None and constant.size == 1:
        return bool(constant.reshape(()))
    if operation.op in ("Identity", "Switch", "PlaceholderWithDefault", "Cast") and operation.inputs:
        return truth_of(translation, operation.inputs[0], depth + 1)
    if operation.op == "LogicalNot":
        inner = truth_of(translation, operation.inputs[0], depth + 1)
        return None if inner is None else not inner
    return None


def dropped_share(translation: TensorFlowTranslation, value: str) -> float | None:
    """The share that a dropout drops, when a value is what one gives in training; None for all others."""
    waiting, seen = [value], {value}
    is_random, numbers = False, list[tuple[str, float]]()
    while waiting and len(seen) < 32:
        operation = translation.operations.get(waiting.pop(0).partition(":")[0])
        if operation is None:
            continue
        is_random = is_random or operation.op in _RANDOM
        numbers += _share_of(translation, operation)
        more = [source for source in operation.inputs if source not in seen and _is_near(translation, source)]
        seen.update(more)
        waiting += more
    return numbers[0][1] if is_random and numbers else None


def _share_of(translation: TensorFlowTranslation, operation: ProgramOperation) -> list[tuple[str, float]]:
    """The share in a comparison of random numbers with it, or in floor(kept + random)."""
    if operation.op not in ("GreaterEqual", "Floor", "Add", "AddV2"):
        return []
    for name in operation.inputs:
        number = _number(translation, name)
        if number is not None and 0 < number < 1:
            return [(operation.op, number if operation.op == "GreaterEqual" else 1 - number)]
    return []


def _number(translation: TensorFlowTranslation, name: str) -> float | None:
    """A constant, also one that a Switch hands on, or that stands for a placeholder."""
    for _ in range(8):
        value: np.ndarray | None = translation.constant(name)
        if value is not None:
            return decimal(value.reshape(-1)[0]) if value.size == 1 else None
        operation = translation.operations.get(name.partition(":")[0])
        if operation is None or operation.op not in ("Identity", "Switch", "PlaceholderWithDefault"):
            return None
        name = operation.inputs[0]
    return None


def _is_near(translation: TensorFlowTranslation, name: str) -> bool:
    """Whether a value belongs to the dropout itself, and is not what it is given."""
    operation = translation.operations.get(name.partition(":")[0])
    return operation is not None and operation.op != "Switch"


def _random(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    raise UnsupportedError("random numbers belong to training alone")


CHOICES: Mapping[str, Translate] = {
    "Switch": _switch, "Merge": _merge, **dict.fromkeys(_RANDOM, _random),
}  # fmt: skip
