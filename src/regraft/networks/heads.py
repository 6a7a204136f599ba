"""A network with a new head: its last dense layer or 1×1 convolution is replaced, and everything behind it cut off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from regraft.arrays import ArrayInfo
from regraft.errors import Advice, BuildError
from regraft.foundation.wording import near_names
from regraft.networks.network import Array, Network, Node, nodes_needed

# Steps behind a convolution after which a map has become one vector for each example.
_POOLING = frozenset({"mean", "max", "avg_pool", "max_pool", "flatten", "reshape", "squeeze"})
_KEEPING = frozenset({"identity", "dropout", "cast"})  # steps behind a head that are no post-processing


@dataclass(frozen=True)
class NewHead:
    """A new head.

    classes  how many outputs it has
    layer    the source layer that it replaces; "" for the last dense layer or 1×1 convolution
    """

    classes: int
    layer: str = ""


def with_new_head(network: Network, infos: Mapping[str, ArrayInfo], head: NewHead) -> Network:
    """The network with its last layer made new, and its outputs the scores of that layer.

    Raises BuildError when there is no such layer, or several come last.
    """
    nodes = nodes_needed(network.nodes, network.outputs)
    candidates = [node for node in nodes if is_head(node, infos)]
    old = _named(candidates, head.layer) if head.layer else _last(network, nodes, candidates)
    weight = old.arrays["weight"].shape_in(infos)
    new = replace(
        old,
        arrays={
            "weight": Array((), shape=(head.classes, *weight[1:])),
            "bias": Array((), shape=(head.classes,)),
        },
    )
    behind = nodes[nodes.index(old) + 1 :]
    kept, output = _pooled(new, behind)
    before = tuple(new if node is old else node for node in nodes)
    needed = nodes_needed((*before, *kept), (output,))
    return replace(
        network, nodes=needed, outputs=(output,), notes=(*network.notes, *_notes(old, weight[0], head, behind))
    )


def is_head(node: Node, infos: Mapping[str, ArrayInfo]) -> bool:
    """Whether the node is a dense layer or a 1×1 convolution."""
    if node.operator not in ("linear", "conv") or node.settings.get("groups", 1) not in (1, None):
        return False
    return all(size == 1 for size in node.arrays["weight"].shape_in(infos)[2:])


def _named(candidates: Sequence[Node], layer: str) -> Node:
    matching = [node for node in candidates if node.layer == layer]
    if not matching:
        known = [node.layer for node in candidates]
        raise BuildError(
            f"There is no dense layer or 1×1 convolution {layer!r} in the network. {near_names(layer, known)}"
        )
    return matching[-1]


def _last(network: Network, nodes: Sequence[Node], candidates: Sequence[Node]) -> Node:
    """The candidate behind which there is no other, the same for every output."""
    last = {_before(nodes, output, candidates) for output in network.outputs}
    if len(last) == 1 and (index := next(iter(last))) is not None:
        return candidates[index]
    if not candidates:
        raise BuildError("The network has no dense layer and no 1×1 convolution that a new head could replace.")
    names = [candidates[index].layer for index in sorted(index for index in last if index is not None)]
    layers = names or [node.layer for node in candidates[-3:]]
    advice = [Advice("head", {"classes": 2, "layer": layer}, f"replace {layer}") for layer in layers]
    raise BuildError(
        f"The network has {len(network.outputs)} outputs with several last layers: {', '.join(layers)}.", advice=advice
    )


def _before(nodes: Sequence[Node], output: str, candidates: Sequence[Node]) -> int | None:
    """The number of the last candidate on which an output depends."""
    needed = nodes_needed(nodes, (output,))
    return next((index for index in reversed(range(len(candidates))) if candidates[index] in needed), None)


def _pooled(new: Node, behind: Sequence[Node]) -> tuple[tuple[Node, ...], str]:
    """A mean over the places of a map, where the old network made one vector of it; the name of the output."""
    output = new.outputs[0]
    if new.operator == "linear" or not _POOLING.intersection(node.operator for node in behind):
        return (), output
    axes = (1, 2) if new.settings.get("channels_last") else (2, 3)
    return (Node("mean", (output,), (f"{output} mean",), {"axes": axes, "keepdim": False}),), f"{output} mean"


def _notes(old: Node, outputs: int, head: NewHead, behind: Sequence[Node]) -> list[str]:
    kind = {"linear": "dense layer", "conv": "1×1 convolution"}[old.operator]
    notes = [f"The {kind} {old.layer} of {outputs} outputs is replaced by a new one of {head.classes}."]
    cut = [node.layer or node.operator for node in behind if node.operator not in _KEEPING]
    if cut:
        notes.append(f"Cut off behind it: {', '.join(dict.fromkeys(cut))}.")
    return notes
