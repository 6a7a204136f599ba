"""Functions without a layer."""

from dataclasses import replace

import pytest

from keras_layers import layer_call, steps
from regraft.networks.keras_builder import RefusedError
from regraft.networks.keras_operations import operation
from regraft.networks.network import Literal


def test_functions_of_both_keras_are_known():
    """A sum written with + is an operation of Keras 3 or a function of TensorFlow."""
    new = layer_call("ops.Add", inputs=("a", "b"))
    old = layer_call("TFOpLambda", {"function": "math.multiply"}, named={"y": 2.0})

    operation(new)
    operation(old)

    assert [operator for operator, _ in (*steps(new), *steps(old))] == ["add", "mul"]


def test_an_unknown_function_is_refused():
    """By the name that the network lists."""
    with pytest.raises(RefusedError):
        operation(layer_call("ops.Fold"))


def test_a_number_may_come_first():
    """1 - x is no x - 1."""
    call = layer_call("ops.Subtract", inputs=())
    call = replace(call, rest=(1.0, "x"))

    operation(call)

    assert call.builder.nodes[0].inputs == (Literal(1.0), "x")
