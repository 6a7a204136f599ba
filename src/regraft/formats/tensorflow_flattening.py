"""In which order a TensorFlow graph flattens a map before a dense layer: by Reshape, data_format and Transpose."""

from collections.abc import Callable, Mapping

import numpy as np

from regraft.arrays import Facts
from regraft.formats.flattening import SPATIAL, flatten_facts
from regraft.formats.tensorflow_nodes import GraphNode

# What gives a map and records where its channels are.
_MAPS = frozenset({
    "Conv2D", "DepthwiseConv2dNative", "Conv3D", "MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "FusedBatchNorm",
    "FusedBatchNormV2", "FusedBatchNormV3", "_FusedConv2D",
})  # fmt: skip
# What keeps every value at its place; a map is the first of several inputs.
_KEEPS = frozenset({
    "Identity", "Cast", "StopGradient", "CheckNumerics", "PlaceholderWithDefault", "Relu", "Relu6", "LeakyRelu", "Elu",
    "Selu", "Sigmoid", "Tanh", "Softplus", "Softmax", "Add", "AddV2", "Sub", "Mul", "RealDiv", "BiasAdd", "Pad",
    "PadV2", "Switch", "Merge", "BatchToSpaceND", "SpaceToBatchND",
})  # fmt: skip
_MOST_STEPS = 64


def flattening(
    nodes: Mapping[str, GraphNode], product: GraphNode, constant: Callable[[str], np.ndarray | None]
) -> Facts:
    """The facts of a flattened map before a dense layer (`flatten_order` …); empty where none is recorded.

    product   the MatMul of the dense layer
    constant  gives the values of a small constant
    """
    reshape = _behind(nodes, product)
    is_at_each_place = any("Tensordot" in name for name in product.inputs)  # a Dense that keeps height and width
    if reshape is None or is_at_each_place or not _flattens(reshape, constant):
        return {}
    before = _behind(nodes, reshape)
    if before is not None and before.op == "Transpose" and len(before.inputs) > 1:
        axes = _transposed(_axes(nodes, _behind(nodes, before)), constant(before.inputs[1]))
    else:
        axes = _axes(nodes, before)
    return flatten_facts(axes, [], None) if axes else {}


def _flattens(node: GraphNode, constant: Callable[[str], np.ndarray | None]) -> bool:
    """Whether a node gives a row of values for each example; sizes that are computed are taken for two."""
    if node.op not in ("Reshape", "Flatten"):
        return False
    sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return sizes is None or sizes.size == 2


def _transposed(stored: list[str], permutation: np.ndarray | None) -> list[str]:
    """The axes of a map behind a Transpose; `["?"]` where it moves the batch or is computed."""
    if not stored:
        return []
    order = [] if permutation is None else [int(axis) for axis in permutation.reshape(-1)]
    is_known = order[:1] == [0] and sorted(order) == list(range(len(stored) + 1))
    return [stored[axis - 1] for axis in order[1:]] if is_known else ["?"]


def _axes(nodes: Mapping[str, GraphNode], node: GraphNode | None) -> list[str]:
    """The axes of the map that a node gives, without the batch; none where they are not recorded."""
    squeezed: list[int] = []
    if node is not None and node.op == "Squeeze":  # as behind a convolution along one axis
        squeezed, node = node.attributes.integers("squeeze_dims"), _behind(nodes, node)
    if node is None or node.op not in _MAPS:
        return []
    spatial = SPATIAL[3 if node.op.endswith("3D") else 2]
    axes = ["c", *spatial] if node.attributes.text("data_format").startswith("NC") else [*spatial, "c"]
    gone = {number % (len(axes) + 1) for number in squeezed}
    left = [axis for number, axis in enumerate(axes, 1) if number not in gone]
    names = iter(SPATIAL.get(len(left) - 1, []))
    return [axis if axis == "c" else next(names, axis) for axis in left]


def _behind(nodes: Mapping[str, GraphNode], node: GraphNode) -> GraphNode | None:
    """The node that gives the first input, past all that keep every value at its place."""
    for _ in range(_MOST_STEPS):
        before = nodes.get(node.inputs[0]) if node.inputs else None
        if before is None or before.op not in _KEEPS:
            return before
        node = before
    return None
