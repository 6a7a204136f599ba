"""What a plan adopts, done to the model: settings set, layers that pad by themselves put in, forwards changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from regraft.errors import PlanError
from regraft.plans.functions import module_for
from regraft.plans.module_graph import Place, places_of
from regraft.plans.rows import RequirementRow
from regraft.tf_layers import padded
from regraft.wording import near_names

# Plain numbers of a module; the order in which they are set before `padding`, which makes a module of its own.
_NUMBERS = ("eps", "momentum", "stride", "dilation")
# Modules without arrays, which another takes the place of.
_MODULES = ("pool", "activation")


_KEPT = "_regraft_adopted"  # on the module that was changed: deepcopy, pickle and `save` take it along


def adopt(model: nn.Module, rows: Sequence[RequirementRow]) -> ExitStack:
    """Give the model what these rows require, and let it remember; closing the result takes it back.

    Raises PlanError, with the model as it was, for a row that cannot be adopted.
    """
    layers = dict(model.named_modules())
    unknown = [row.layer for row in rows if row.layer not in layers]
    if unknown:
        told = "\n".join(f"  There is no layer {name!r}. {near_names(name, layers)}" for name in dict.fromkeys(unknown))
        raise PlanError(f"What the plan adopts does not belong to this model; nothing was changed.\n{told}")
    changes = ExitStack()
    with ExitStack() as undone:
        undone.push(changes)
        for row in sorted(rows, key=lambda row: row.attribute == "padding"):
            if not row.adoptable:
                raise PlanError(f"{row.name} cannot be adopted: change the model itself.\n{row.note}")
            _adopt(model, row, changes)
        for layer, edits in _edits(rows).items():
            _change_forward(model.get_submodule(layer), edits, changes)
        if rows:
            changes.callback(model.__dict__.__setitem__, _KEPT, model.__dict__.get(_KEPT, ()))
            model.__dict__[_KEPT] = (*model.__dict__.get(_KEPT, ()), *rows)
        undone.pop_all()
    return changes


def adopted_by(model: nn.Module) -> tuple[RequirementRow, ...]:
    """All that was adopted in the model or in a part of it, by the names of the whole."""
    found: dict[tuple[str, str], RequirementRow] = {}
    for name, module in model.named_modules():
        for row in module.__dict__.get(_KEPT, ()):
            layer = ".".join(filter(None, (name, row.layer)))
            found[layer, row.attribute] = replace(row, layer=layer)
    return tuple(found.values())


def _adopt(model: nn.Module, row: RequirementRow, changes: ExitStack) -> None:
    required: Any = row.required
    module = model.get_submodule(row.layer)
    if row.attribute in _NUMBERS:
        _set(module, row.attribute, required, changes)
    elif row.attribute == "bias":
        _give_bias(module, changes)
    elif row.attribute == "padding":
        _pad(model, row.layer, required, changes)
    elif row.attribute in _MODULES:
        _put(model, row.layer, _module_for(row.name, str(required)), changes)


def _edits(rows: Sequence[RequirementRow]) -> dict[str, dict[str, str]]:
    """Module → call in its forward → what it is to do."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.attribute not in (*_NUMBERS, *_MODULES, "bias", "padding"):
            found[row.layer][row.attribute] = str(row.required)
    return found


def _set(module: nn.Module, name: str, value: object, changes: ExitStack) -> None:
    changes.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)


def _put(model: nn.Module, name: str, module: nn.Module, changes: ExitStack) -> None:
    parent, _, child = name.rpartition(".")
    old = model.get_submodule(name)
    changes.callback(setattr, model.get_submodule(parent), child, old)
    setattr(model.get_submodule(parent), child, module.train(old.training))


def _give_bias(module: nn.Module, changes: ExitStack) -> None:
    weight = module.weight
    assert isinstance(weight, torch.Tensor), "our bug: a bias was offered to a layer without a weight"
    outputs = (
        weight.shape[1] * module.groups if isinstance(module, nn.modules.conv._ConvTransposeNd) else weight.shape[0]
    )
    changes.callback(setattr, module, "bias", module.bias)
    module.bias = nn.Parameter(torch.zeros(outputs, dtype=weight.dtype, device=weight.device), weight.requires_grad)


def _pad(model: nn.Module, name: str, required: Any, changes: ExitStack) -> None:
    """Numbers are set; what torch's convolution cannot do is done by one that pads by itself."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.modules.conv._ConvNd), "our bug: padding was offered to a layer that has none"
    sides = (required,) * len(module.kernel_size) if isinstance(required, int) else required
    if isinstance(sides, tuple) and all(isinstance(side, int) for side in sides):
        _set(module, "padding", sides, changes)
    else:
        _put(model, name, padded(module, sides), changes)


def _module_for(name: str, required: str) -> nn.Module:
    made = module_for(required)
    if made is None:
        raise PlanError(f"{name}: no module does {required!r}. Write it in the model itself.")
    return made


# --- calls inside a forward -----------------------------------------------------------------------------------------


class _Children(fx.Tracer):
    """Follows one forward alone: every child stays a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def can_change(model: nn.Module, place: Place, required: str) -> bool:
    """Whether a place of the model can do a step: a module of its own, or a call in a forward that can be rewritten."""
    if module_for(required) is None:
        return False
    owner = dict(model.named_modules()).get(place[0])
    if owner is None or not place[1]:
        return owner is not None
    graph = _own_graph(owner)
    return graph is not None and _node_of(graph, place[1]) is not None


def _own_graph(module: nn.Module) -> fx.Graph | None:
    """The module's own forward; None when torch.fx cannot follow it, or when it does other things in training."""
    was_training = [(one, one.training) for one in module.modules()]
    try:
        graphs = [_Children().trace(module.train(mode)) for mode in (True, False)]
    except Exception:  # any forward runs here, with stand-ins for tensors
        return None
    finally:
        for one, mode in was_training:
            one.training = mode
    codes = {graph.python_code("self").src for graph in graphs}
    return graphs[0] if len(codes) == 1 else None


def _node_of(graph: fx.Graph, call: str) -> fx.Node | None:
    """The call of that name; of "add_1.0" the call whose first input it is about."""
    nodes = {place[1]: node for node, place in places_of(graph).items()}
    plain, _, operand = call.rpartition(".")
    if call in nodes or plain not in nodes or not operand.isdigit():
        return nodes.get(call)
    return nodes[plain] if int(operand) < len(_operands(nodes[plain])) else None


def _operands(node: fx.Node) -> Sequence[Any]:
    """The inputs of a call; of a concatenation those in its list."""
    return node.args[0] if node.args and isinstance(node.args[0], (list, tuple)) else node.args


def _change_forward(module: nn.Module, edits: Mapping[str, str], changes: ExitStack) -> None:
    """Give the module a class of its own, whose forward does some calls otherwise, by new children without arrays.

    Its name, its arrays and its other children stay; the forward is the text that torch.fx writes of the old one.
    What was changed so before is left.
    """
    edits = {call: required for call, required in edits.items() if not hasattr(module, _child(call))}
    graph = _own_graph(module)
    nodes = {} if graph is None else {call: _node_of(graph, call) for call in edits}
    for call, required in edits.items():
        node = nodes.get(call)
        if graph is None or node is None:
            raise PlanError(f"{type(module).__name__} has no call {call!r} in its forward that can be changed.")
        child = _child(call)
        if not required.startswith("no "):
            changes.callback(delattr, module, child)
            module.add_module(child, _module_for(call, required).train(module.training))
        _edit(graph, node, call, None if required.startswith("no ") else child)
    if graph is not None and edits:
        changes.callback(setattr, module, "__class__", type(module))
        module.__class__ = _with_forward(type(module), graph)


def _child(call: str) -> str:
    return f"{call.replace('.', '_')}_adopted"


def _edit(graph: fx.Graph, node: fx.Node, call: str, child: str | None) -> None:
    """Let the child (None: nothing) take the place of a call, or come before the input that the call's name tells."""
    index = int(call.rpartition(".")[2]) if _is_before(call, node) else None
    before = node.all_input_nodes[0] if index is None else _operands(node)[index]
    with graph.inserting_before(node):
        done = before if child is None else graph.call_module(child, (before,))
    if index is None:
        node.replace_all_uses_with(done)
        graph.erase_node(node)
        return
    operands = list(_operands(node))
    operands[index] = done
    node.args = (operands, *node.args[1:]) if _operands(node) is not node.args else tuple(operands)


def _is_before(call: str, node: fx.Node) -> bool:
    """Whether the name means an input of the call, not the call: "add_1.0"; a child may be called "conv.0"."""
    return "." in call and not (node.op == "call_module" and node.target == call)


def _with_forward(kind: type, graph: fx.Graph) -> type:
    code = graph.python_code("self")
    names: dict[str, Any] = dict(code.globals)
    # The text is torch.fx' own, of a forward that was there; a GraphModule is made so too.
    exec(compile(code.src, f"<regraft: {kind.__name__}.forward as adopted>", "exec"), names)  # noqa: S102
    told = f"{kind.__name__}, whose forward was changed as a plan says:\n\n{code.src}"
    same = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind)(kind.__name__, (kind,), {**same, "forward": names["forward"], "__doc__": told})
