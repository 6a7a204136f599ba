"""States that a TensorFlow Lite file keeps between calls, as inputs and outputs of its network.

Source: tensorflow/lite/kernels/{var_handle,read_variable,assign_variable,call_once}.cc.
"""

from collections.abc import Mapping, Sequence

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import UnsupportedError
from regraft.networks.tensorflow_translation import TensorFlowTranslation, Translate


def walk_states(translation: TensorFlowTranslation, order: Sequence[ProgramOperation]) -> dict[str, str]:
    """State → the value that it has in the end, for all that are read; they are then values of the network."""
    handles = {
        operation.name: str(operation.settings["shared_name"]) for operation in order if operation.op == "VarHandle"
    }
    given: dict[str, str] = {}
    for operation in order:
        if operation.op == "ReadVariable":
            name = handles[operation.inputs[0]]
            translation.state_shapes.setdefault(name, operation.settings.get("output_shape") or ())
            translation.states.setdefault(name, name)
            given.setdefault(name, name)
        if operation.op == "AssignVariable" and handles[operation.inputs[0]] in given:
            given[handles[operation.inputs[0]]] = operation.inputs[1]
    return given


def _name(translation: TensorFlowTranslation, operation: ProgramOperation) -> str:
    handle = translation.operations.get(operation.inputs[0])
    if handle is None or handle.op != "VarHandle":
        raise UnsupportedError("it takes a state that is handed over")
    return str(handle.settings["shared_name"])


def _read(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    translation.alias(operation.name, translation.states[_name(translation, operation)])


def _assign(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    name = _name(translation, operation)
    if name in translation.states:
        translation.states[name] = translation.value(operation.inputs[1])


def _nothing(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    """A handle is looked up by its users; the first call alone sets states to 0."""


STATES: Mapping[str, Translate] = {
    "VarHandle": _nothing, "ReadVariable": _read, "AssignVariable": _assign, "CallOnce": _nothing,
}  # fmt: skip
