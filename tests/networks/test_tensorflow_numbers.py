"""TensorFlow's operations on numbers, in Lite files and graphs, compute what TensorFlow computes."""

import pytest
from tests.tensorflow_networks import check

NAMES = [
    "relu", "relu6", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "square", "floor", "ceil", "round", "sin",
    "cos", "elu", "leaky", "gelu", "neg", "abs", "add", "mul", "sub", "div", "pow", "minimum",
    "squared_difference", "select", "floor_mod", "mean", "mean_keep", "sum", "max", "min", "argmax", "softmax",
    "log_softmax", "cumsum", "topk", "lrn", "matmul", "einsum", "l2", "logical",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_of_a_lite_file_computes_as_in_tensorflow(name):
    """The whole file is one network with an output for each operation."""
    check("graph_operations.tflite", name)


@pytest.mark.parametrize("name", [*NAMES, "tf_softplus", "tf_selu", "tf_erf", "tf_div_no_nan", "maximum"])
def test_an_operation_of_a_frozen_graph_computes_as_in_tensorflow(name):
    """The same operations as TensorFlow itself writes them."""
    check("graph_operations.pb", name)
