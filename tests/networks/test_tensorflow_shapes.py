"""TensorFlow's operations that move numbers, in Lite files and graphs, compute what TensorFlow computes."""

import pytest
from tests.tensorflow_networks import check

NAMES = [
    "reshape", "transpose", "concat", "concat_rows", "stack", "unstack", "split", "split_sizes", "slice",
    "strided_slice", "new_axis", "squeeze", "expand", "tile", "reverse", "gather", "gather_nd", "pad", "pad_value",
    "pad_reflect", "pad_symmetric", "one_hot", "broadcast", "like", "fill", "depth_to_space",
    "space_to_depth", "resize", "resize_half", "resize_align", "nearest", "nearest_half", "nearest_align",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_of_a_lite_file_computes_as_in_tensorflow(name):
    """The whole file is one network with an output for each operation."""
    check("graph_operations.tflite", name)


@pytest.mark.parametrize("name", [*NAMES, "tf_batches", "shape"])
def test_an_operation_of_a_frozen_graph_computes_as_in_tensorflow(name):
    """The same operations as TensorFlow itself writes them."""
    check("graph_operations.pb", name)
