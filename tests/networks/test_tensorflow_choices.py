"""Choices between training and use are made as the network is used."""

import numpy as np
import pytest

from regraft.formats.tensorflow_program import Operation
from regraft.networks.drafting import UnsupportedError
from regraft.networks.tensorflow_choices import chosen_input, dropped_share, taken_inputs, truth_of
from regraft.networks.tensorflow_translation import TensorFlowTranslation

CONSTANTS = {"rate": np.array(0.3, np.float32), "yes": np.array(True)}
SWITCH = Operation("Placeholder", "training", (), {"dtype": "bool", "shape": ()})


def translation(*operations):
    """A translation of these operations."""
    every = {operation.name: operation for operation in (SWITCH, *operations)}
    return TensorFlowTranslation({}, every, {}, CONSTANTS.get, {})


def choice(condition):
    """Dropout in training, the value itself in use."""
    return (
        Operation("Switch", "s", ("x", condition), {}), Operation("RandomUniform", "random", ("shape",), {}),
        Operation("GreaterEqual", "mask", ("random", "rate"), {}), Operation("Mul", "drop", ("s:1", "mask"), {}),
        Operation("Identity", "keep", ("s",), {}), Operation("Merge", "drop1/cond/Merge", ("keep", "drop"), {}),
    )  # fmt: skip


def test_a_placeholder_for_training_is_false():
    """And so is what is computed from it."""
    known = translation(
        Operation("LogicalNot", "use", ("training",), {}), Operation("Identity", "copy", ("training",), {})
    )

    assert truth_of(known, "training") is False
    assert truth_of(known, "use") is True
    assert truth_of(known, "copy") is False
    assert truth_of(known, "x") is None


def test_the_branch_of_use_counts():
    """The other one is not needed, and tells how much it drops."""
    operations = choice("training")
    known = translation(*operations)

    assert chosen_input(known, operations[-1]) == ("keep", ["drop"])
    assert taken_inputs(known, operations[-1]) == ("keep",)
    assert taken_inputs(known, operations[0]) == ("x",)
    assert dropped_share(known, "drop") == pytest.approx(0.3)
    assert dropped_share(known, "keep") is None


def test_a_condition_that_is_computed_is_refused():
    """It may be a loop."""
    operations = choice("unknown")
    known = translation(*operations)

    with pytest.raises(UnsupportedError, match="its condition is computed as the network runs"):
        chosen_input(known, operations[-1])
    assert taken_inputs(known, operations[-1]) == ("keep", "drop")
