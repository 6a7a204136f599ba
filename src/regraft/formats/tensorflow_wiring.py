"""How the layers of a TensorFlow graph are connected: through joins, poolings and activations, in Keras' words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.formats.tensorflow_nodes import GraphNode, decimal, leaky_relu

_WORDS = {"AddV2": "Add", "AddN": "Add", "Mul": "Multiply", "ConcatV2": "Concat", "MaxPool": "MaxPooling2D",
          "AvgPool": "AveragePooling2D"}  # fmt: skip
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Elu": "elu(1)", "Selu": "selu", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softmax": "softmax", "Softplus": "softplus",
}  # fmt: skip
# Operations that pass a map on as it is, or in training alone do more.
# Words in the operations that give a model its input.
_SOURCES = ("Placeholder", "Dequeue", "IteratorGetNext")
_PASSED = frozenset({
    "Identity", "Cast", "StopGradient", "CheckNumerics", "PlaceholderWithDefault", "PreventGradient", "IdentityN",
    "Snapshot",
})  # fmt: skip
_MOST_ARRAYS = 32  # that a computed factor or summand is searched for
_MAP_INPUT = {
    "Conv2DBackpropInput": slice(2, 3),
    "ConcatV2": slice(None, -1),
    "Split": slice(1, 2),
    "SplitV": slice(0, 1),
}
_POOLS = {"MaxPool": "max", "AvgPool": "average"}
_FIRST_ONLY = frozenset({
    "Reshape", "Pad", "PadV2", "MirrorPad", "Mean", "Sum", "Max", "ResizeBilinear", "ResizeNearestNeighbor", "Slice",
    "StridedSlice", "Squeeze", "ExpandDims", "Transpose", "SpaceToBatchND", "BatchToSpaceND", "Tile", "GatherV2",
})  # fmt: skip


def tensorflow_wiring(
    nodes: Mapping[str, GraphNode],
    layers: Mapping[str, tuple[str, str]],
    owners_of: Callable[[str], Sequence[str]],
    constant: Callable[[str], np.ndarray | None],
) -> Iterator[Requirement]:
    """For each layer, and each node that leads to one, the names that feed it, `inputs`, and its `operation`.

    layers     node → (name of the layer that it computes, kind)
    owners_of  gives the layers whose arrays a node reads
    constant   gives the values of a small constant

    "" is the graph's input. Nodes that lead to no layer (losses, summaries) are left out.
    """
    nodes = {**nodes, **_leaky_relus(nodes, constant)}
    labels = _Labels(nodes, layers, owners_of)
    wanted = _ancestors(nodes, layers)
    emitted: set[str] = set()
    for name in labels.order(wanted):
        label, feeding = labels.labels.get(name), labels.feeding(name)
        if label is None or not feeding or name in labels.passed or label in emitted or label in feeding:
            continue
        emitted.add(label)
        yield Requirement(label, "inputs", feeding)
        node = nodes[name]
        if name in layers or label != name:
            yield Requirement(label, "operation", labels.kinds.get(label, node.op))
        else:
            yield Requirement(label, "operation", _operation(node, constant))
            yield from requirements_for(label, _facts(node, constant))


def _leaky_relus(nodes: Mapping[str, GraphNode], constant: Callable[[str], np.ndarray | None]) -> dict[str, GraphNode]:
    """Each max(x, slope · x), as graphs had it before there was an operation for it, as that operation."""
    activations: dict[str, GraphNode] = {}
    for name, node in nodes.items():
        if node.op == "Maximum" and len(node.inputs) == 2:
            for source, product in permutations(node.inputs):
                slope = _factor(nodes.get(product), source, constant)
                if slope is not None and 0 < slope <= 1:
                    activations[name] = leaky_relu(source, slope)
    return activations


def _factor(node: GraphNode | None, source: str, constant: Callable[[str], np.ndarray | None]) -> float | None:
    """The number by which a node multiplies this input; None when it does something else."""
    if node is None or node.op != "Mul" or source not in node.inputs or len(node.inputs) != 2:
        return None
    other = constant(node.inputs[1 - node.inputs.index(source)])
    return None if other is None or other.size != 1 else decimal(float(other.reshape(())))


def _ancestors(nodes: Mapping[str, GraphNode], layers: Mapping[str, tuple[str, str]]) -> set[str]:
    """All nodes that lead to a layer, layers included."""
    ancestors: set[str] = set()
    waiting = list(layers)
    while waiting:
        name = waiting.pop()
        if name not in ancestors and name in nodes:
            ancestors.add(name)
            waiting += nodes[name].inputs
    return ancestors


class _Labels:
    """What gives the value of each node: "" the input, a layer, the node itself; nothing for what is no map.

    passed  nodes that only pass a map on
    kinds   layer → its type
    """

    def __init__(
        self,
        nodes: Mapping[str, GraphNode],
        layers: Mapping[str, tuple[str, str]],
        owners_of: Callable[[str], Sequence[str]],
    ) -> None:
        self.nodes, self.layers, self.owners_of = nodes, layers, owners_of
        self.kinds = dict(layers.values())
        self.labels: dict[str, str | None] = {}
        self.passed: set[str] = set()

    def order(self, wanted: set[str]) -> list[str]:
        """The wanted nodes, each after those that feed it; each gets its label."""
        done: dict[str, None] = {}
        entered: set[str] = set()
        for start in self.nodes:
            waiting = [start] if start in wanted else []
            while waiting:
                name = waiting[-1]
                before = [] if name in entered else [source for source in self._inputs(name) if source not in entered]
                entered.add(name)
                waiting += before
                if not before:
                    waiting.pop()
                    if name not in done:
                        done[name] = None
                        self.labels[name] = self._label(name)
        return list(done)

    def feeding(self, name: str) -> list[str]:
        """The labels of the maps that a node takes."""
        node = self.nodes[name]
        inputs = node.inputs[_MAP_INPUT.get(node.op, slice(0, 1) if node.op in _FIRST_ONLY else slice(None))]
        labels = (self.labels.get(source) for source in inputs)
        return [label for label in labels if label is not None]

    def _inputs(self, name: str) -> list[str]:
        return [source for source in self.nodes[name].inputs if source in self.nodes]

    def _label(self, name: str) -> str | None:
        node = self.nodes[name]
        if name in self.layers and node.inputs and node.op != "Rsqrt":
            return self.layers[name][0]
        feeding = self.feeding(name)
        if not feeding:
            return "" if any(word in node.op for word in _SOURCES) else None
        if node.op in _PASSED:
            self.passed.add(name)
            return feeding[0]
        owner = self._owner(node) if node.op in ("Mul", "Add", "AddV2", "Sub", "BiasAdd") else None
        return name if owner is None else owner

    def _owner(self, node: GraphNode) -> str | None:
        """The layer whose bias, scale or statistics a node adds to its one map, or multiplies it by."""
        constants = [name for name in node.inputs if self.labels.get(name) is None]
        if len(constants) != len(node.inputs) - 1:
            return None
        waiting, seen = list(constants), set(constants)
        while waiting and len(seen) < _MOST_ARRAYS:
            name = waiting.pop(0)
            owners = self.owners_of(name)
            if owners:
                return owners[0]
            more = [source for source in self._inputs(name) if source not in seen] if name in self.nodes else []
            seen.update(more)
            waiting += more
        return None


def _operation(node: GraphNode, constant: Callable[[str], np.ndarray | None]) -> str:
    """What a node without arrays does, in Keras' words; TensorFlow's own where there are none."""
    if node.op in ("Mean", "Max") and len(node.inputs) > 1:
        axes = constant(node.inputs[1])
        is_global = axes is not None and sorted(int(axis) % 4 for axis in axes.reshape(-1)) == [1, 2]
        return f"Global{'Average' if node.op == 'Mean' else 'Max'}Pooling2D" if is_global else node.op
    return _WORDS.get(node.op, node.op)


def _facts(node: GraphNode, constant: Callable[[str], np.ndarray | None]) -> Facts:
    """What a pooling, a padding or an activation does."""
    settings = node.attributes
    space = slice(2, None) if settings.text("data_format").startswith("NC") else slice(1, -1)
    if node.op in _POOLS:
        return {
            "pool": _POOLS[node.op], "pool_size": settings.integers("ksize")[space],
            "strides": settings.integers("strides")[space], "padding": settings.text("padding").lower(),
        }  # fmt: skip
    if node.op in ("Pad", "PadV2") and len(node.inputs) == 2:
        sides = constant(node.inputs[1])
        return {} if sides is None or sides.ndim != 2 else {"pad": sides.astype(int).tolist()[1:-1]}
    if node.op == "LeakyRelu":
        return {"activation": f"leaky_relu({settings.real('alpha') or 0.2:g})"}
    return {"activation": _ACTIVATIONS[node.op]} if node.op in _ACTIVATIONS else {}
