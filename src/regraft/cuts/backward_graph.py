"""What a backward pass will compute from: the steps of an autograd graph, and the values that the forward saved.

A backward pass is a function of the two and of the loss. Where both are equal to the bit, so are the gradients, and
nothing has to be computed to know it.
"""

import re

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from regraft.errors import SplitError
from regraft.tensors.trees import dense, find_in

# Steps of torch's own, whose saved values Python can read. `CopySlices` and steps written in Python hide theirs.
_OPEN = re.compile(r"\w+Backward\d+")
_LEAF = "AccumulateGrad"


def backward_graph(model: nn.Module, outputs: list[Tensor]) -> dict[str, Tensor]:
    """Each step of the backward pass of these outputs: a text that says what it is → each tensor that it saved.

    The text holds the steps that come next, the numbers that were saved, and how tensors lie in memory, by which
    kernels round. An empty tensor stands for a step without a saved one.

    Raises SplitError for a step whose saved values cannot be read, and where one was overwritten since.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    roots = [output.grad_fn for output in outputs]
    nodes = _nodes([root for root in roots if root is not None])
    places = {node: index for index, node in enumerate(nodes)}
    graph = {
        f"output {i} {_layout(output)}, {places[root] if root else names.get(id(output))}": _NONE
        for i, (output, root) in enumerate(zip(outputs, roots, strict=True))
    }
    for index, node in enumerate(nodes):
        following = [(places[after] if after else None, position) for after, position in node.next_functions]
        text = f"backward {index}: {node.name()} {following}"
        if node.name().endswith(_LEAF):
            parameter: Tensor = getattr(node, "variable")  # noqa: B009  # of this kind of step alone
            graph[f"{text} {names.get(id(parameter))}"] = _NONE
        else:
            graph |= _saved(node, text)
    return graph


_NONE = torch.empty(0)


def _nodes(roots: list[Node]) -> list[Node]:
    """Every step that the roots lead to, in the order of a walk that is the same for equal graphs."""
    nodes: dict[Node, None] = {}
    waiting = roots[::-1]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes[node] = None
            waiting += [after for after, _ in reversed(node.next_functions) if after is not None]
    return [*nodes]


def _saved(node: Node, text: str) -> dict[str, Tensor]:
    """What a step saved: its tensors, and in the text all else."""
    if not _OPEN.fullmatch(node.name()):
        raise SplitError(f"{node.name()} does not show what its backward pass reads.")
    tensors, plain = dict[str, Tensor](), list[str]()
    for attribute in sorted(name for name in dir(node) if name.startswith("_saved_")):
        value = getattr(node, attribute)
        found = [dense(tensor.detach()) for tensor in find_in(value, Tensor)]
        plain += [] if found else [f"{attribute}={value!r}"]
        tensors |= {f"{text}{attribute}.{i} {_layout(tensor)}": tensor for i, tensor in enumerate(found)}
    return {f"{text} {plain}": _NONE, **tensors}


def _layout(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.stride()} {tensor.dtype}"
