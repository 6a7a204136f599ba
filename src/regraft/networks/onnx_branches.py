"""ONNX' `If`: the branch that a known condition chooses, or both as networks of their own. Loops have no translation.

Source: onnx/onnx, docs/Operators.md.
"""

from collections.abc import Mapping
from dataclasses import replace

from regraft.formats.onnx_nodes import OnnxBody, OnnxNode
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Network, NetworkInput, nodes_needed
from regraft.networks.onnx_translation import Translate, Translation, walk


def _if(translation: Translation, node: OnnxNode) -> None:
    condition = translation.constant(node.input(0))
    if condition is not None:
        _inline(translation, node, node.bodies["then_branch" if condition.any() else "else_branch"])
        return
    branches = {word: _branch(translation, node.bodies[f"{word}_branch"]) for word in ("then", "else")}
    outer = list(dict.fromkeys(entry.name for branch in branches.values() for entry in branch.entries))
    entries = tuple(NetworkInput(name, (), translation.dtype(name)) for name in outer)
    networks = {word: replace(branch, entries=entries) for word, branch in branches.items()}
    translation.emit("if", [translation.value(node.input(0)), *outer], node.outputs, **networks)
    translation.dtypes[node.outputs[0]] = _dtype(translation, node)


def _dtype(translation: Translation, node: OnnxNode) -> str:
    name = node.bodies["then_branch"].outputs[0]
    return translation.dtypes.get(name, "float32")


def _inline(translation: Translation, node: OnnxNode, body: OnnxBody) -> None:
    """The nodes of a branch as if they stood in the graph itself."""
    own = translation.own
    walk(translation, body, inline=True)
    translation.own = own
    for index, (inner, outer) in enumerate(zip(body.outputs, node.outputs, strict=True)):
        translation.dtypes[outer] = translation.dtype(inner)
        translation.known[outer] = translation.constant(inner)
        translation.alias(node, translation.value(inner), index)


def _branch(translation: Translation, body: OnnxBody) -> Network:
    """A branch as a network whose inputs are the values of the surrounding graph that it takes."""
    inner = replace(
        translation, draft=replace(translation.draft, nodes=[]),
        values=dict(translation.values), known=dict(translation.known),
        outputs=frozenset(body.outputs), own=frozenset(),
    )  # fmt: skip
    walk(inner, body)
    nodes = nodes_needed(inner.draft.nodes, body.outputs)
    made = {output for node in nodes for output in node.outputs}
    taken = dict.fromkeys(value for node in nodes for value in node.values if value not in made)
    return Network(tuple(NetworkInput(name, ()) for name in taken), nodes, tuple(body.outputs))


def _loop(translation: Translation, node: OnnxNode) -> None:
    raise UnsupportedError("loops have no translation")


BRANCHES: Mapping[str, Translate] = {"If": _if, "Loop": _loop, "Scan": _loop}
