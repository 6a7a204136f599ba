"""TensorFlow's layers and poolings, in Lite files and graphs, compute what TensorFlow computes."""

import pytest
from tests.tensorflow_networks import check

NAMES = [
    "embedding", "max_pool", "average_pool", "average_valid", "conv", "conv_holes", "depthwise", "conv_transpose",
    "conv_transpose_valid", "dense", "norm", "prelu",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_of_a_lite_file_computes_as_in_tensorflow(name):
    """The whole file is one network with an output for each operation."""
    check("graph_operations.tflite", name)


@pytest.mark.parametrize("name", [*NAMES, "tf_fused_norm"])
def test_an_operation_of_a_frozen_graph_computes_as_in_tensorflow(name):
    """The same operations as TensorFlow itself writes them."""
    check("graph_operations.pb", name)
