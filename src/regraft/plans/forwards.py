"""Calls in a module's forward that are done otherwise: the forward is written anew, the module stays the same object.

How: torch.fx traces the forward with all children as calls (`_forward_graph`); a call is replaced by a call of a new
child (`_edit`); torch.fx writes the graph as Python text, as it does for its own GraphModule; that text is the
`forward` of a subclass, and the module becomes an instance of it (`_become`). Names, arrays and other children stay.
"""

import types
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch import fx, nn

from regraft.errors import PlanError
from regraft.plans.module_graph import calls_of, operands_of
from regraft.plans.steps import CallStep


def can_edit(module: nn.Module, call: CallStep) -> bool:
    """Whether the module's forward can be written anew, and has this call."""
    graph = _forward_graph(module)
    return graph is not None and _node_of(graph, call) is not None


def change_forward(module: nn.Module, edits: Mapping[CallStep, nn.Module | None], changes: ExitStack) -> None:
    """Let the module's forward do these calls by new children without arrays; None leaves a call out.

    What was changed so before is left. Raises PlanError for a call that the forward does not have.

    changes   takes all back when it is closed
    """
    edits = {call: child for call, child in edits.items() if not hasattr(module, _child_name(call))}
    graph = _forward_graph(module) if edits else None
    # All nodes are looked up before the first edit, which would renumber the calls behind it.
    nodes = {} if graph is None else {call: _node_of(graph, call) for call in edits}
    for call, child in edits.items():
        node = nodes.get(call)
        if node is None:
            raise PlanError(f"The forward of {type(module).__name__} has no call {call.attribute!r} to change.")
        if child is not None:
            changes.callback(delattr, module, _child_name(call))
            module.add_module(_child_name(call), child.train(module.training))
        _edit(node, call, child)
    if graph is not None:
        _become(module, graph, changes)


def _child_name(call: CallStep) -> str:
    return f"{call.attribute.replace('.', '_')}_adopted"


class _CallsOfChildren(fx.Tracer):
    """Traces one forward alone: every child stays a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _forward_graph(module: nn.Module) -> fx.Graph | None:
    """The module's own forward; None when torch.fx cannot trace it, or when it does other things in training."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        graphs = [_CallsOfChildren().trace(module.train(mode)) for mode in (True, False)]
    except Exception:  # any forward runs here, with stand-ins for tensors
        return None
    finally:
        for part, mode in modes:
            part.training = mode
    texts = {graph.python_code("self").src for graph in graphs}
    return graphs[0] if len(texts) == 1 else None


def _node_of(graph: fx.Graph, call: CallStep) -> fx.Node | None:
    """The node of that call; None where there is none, or where it has no such operand."""
    node = {own.call: node for node, own in calls_of(graph).items()}.get(call.call)
    if node is None or call.operand is None:
        return node
    return node if call.operand < len(operands_of(node)) else None


def _edit(node: fx.Node, call: CallStep, child: nn.Module | None) -> None:
    """Let the child take the place of a call, or of an operand's value; None leaves the call out."""
    operands = list(operands_of(node))
    before = node.all_input_nodes[0] if call.operand is None else operands[call.operand]
    with node.graph.inserting_before(node):
        result = before if child is None else node.graph.call_module(_child_name(call), (before,))
    if call.operand is None:
        node.replace_all_uses_with(result)
        node.graph.erase_node(node)
        return
    operands[call.operand] = result
    node.args = (operands, *node.args[1:]) if operands_of(node) is not node.args else tuple(operands)


def _become(module: nn.Module, graph: fx.Graph, changes: ExitStack) -> None:
    """Make the module an instance of a subclass of its own class, with the graph as its forward."""
    kind = type(module)
    code = graph.python_code("self")
    names: dict[str, Any] = dict(code.globals)
    # The text is torch.fx' own, of a forward that was there; a GraphModule is made so too.
    exec(compile(code.src, f"<regraft: {kind.__name__}.forward as adopted>", "exec"), names)  # noqa: S102
    body = {
        "__module__": kind.__module__,  # so that reports and errors name the user's class
        "__qualname__": kind.__qualname__,
        "__doc__": f"{kind.__name__}, whose forward was changed as a plan says:\n\n{code.src}",
        "forward": names["forward"],
    }
    changes.callback(setattr, module, "__class__", kind)
    module.__class__ = types.new_class(kind.__name__, (kind,), exec_body=lambda namespace: namespace.update(body))
