"""Choices between training and use are made as the network is used."""

import numpy as np
import pytest

from regraft.formats.tensorflow_program import ProgramOperation as Op
from regraft.networks.drafting import UnsupportedError
from regraft.networks.tensorflow_choices import chosen_input, dropped_share, taken_inputs, truth_of
from regraft.networks.tensorflow_translation import TensorFlowTranslation

CONSTANTS = {"rate": np.array(0.3, np.float32), "yes": np.array(True)}
SWITCH = Op("Placeholder", "training", (), {"dtype": "bool", "shape": ()})


def translation(*operations):
    """A translation of these operations."""
    every = {operation.name: operation for operation in (SWITCH, *operations)}
    return TensorFlowTranslation({}, every, {}, CONSTANTS.get, {})


def choice(condition):
    """Dropout in training, the value itself in use."""
    return (
        Op("Switch", "s", ("x", condition), {}), Op("RandomUniform", "random", ("shape",), {}),
        Op("GreaterEqual", "mask", ("random", "rate"), {}), Op("Mul", "drop", ("s:1", "mask"), {}),
        Op("Identity", "keep", ("s",), {}), Op("Merge", "drop1/cond/Merge", ("keep", "drop"), {}),
    )  # fmt: skip


def test_a_placeholder_for_training_is_false():
    """And so is what is computed from it."""
    known = translation(Op("LogicalNot", "use", ("training",), {}), Op("Identity", "copy", ("training",), {}))

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
