"""States that a file keeps between calls are inputs and outputs."""

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.tensorflow_states import STATES, walk_states
from regraft.networks.tensorflow_translation import TensorFlowTranslation, walk


def translation_of(order):
    """A translation of operations without arrays."""
    return TensorFlowTranslation({}, {operation.name: operation for operation in order}, {}, lambda name: None, STATES)


def test_a_state_that_is_read_is_an_input_and_what_is_assigned_an_output():
    """What is read after an assignment is what was assigned."""
    order = [
        ProgramOperation("VarHandle", "h", (), {"shared_name": "stream"}),
        ProgramOperation("ReadVariable", "before", ("h",), {"output_shape": (1, 4)}),
        ProgramOperation("AssignVariable", "set", ("h", "x"), {}),
        ProgramOperation("ReadVariable", "after", ("h",), {"output_shape": (1, 4)}),
    ]
    translation = translation_of(order)

    states = walk_states(translation, order)
    walk(translation, order, ("before", "after"))

    assert states == {"stream": "x"}
    assert translation.state_shapes == {"stream": (1, 4)}
    assert [node.inputs for node in translation.draft.nodes] == [("stream",), ("x",)]


def test_a_state_that_is_never_read_is_no_input():
    """Nothing depends on it."""
    order = [
        ProgramOperation("VarHandle", "h", (), {"shared_name": "s"}),
        ProgramOperation("AssignVariable", "set", ("h", "x"), {}),
    ]

    assert walk_states(translation_of(order), order) == {}
