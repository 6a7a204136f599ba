"""A torch model's graph of layers, from its own forward, without running it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from regraft.plans.describing import kind_of
from regraft.plans.graphs import Expression, combined

_WORDS = {
    "add": "add", "iadd": "add", "add_": "add", "mul": "mul", "imul": "mul", "mul_": "mul", "multiply": "mul",
    "cat": "cat", "concat": "cat", "concatenate": "cat",
}  # fmt: skip


class _Tracer(fx.Tracer):
    """Stops at layers whose arrays we know, and at modules without any array: their insides do not matter."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return kind_of(m) != "other" or not any(True for _ in m.parameters())


@dataclass(frozen=True)
class Traced:
    """The wiring of a model.

    inputs   layer → what feeds it; a parameter that scales a map counts as a layer under its own name
    follows  layer → the layer whose output it takes directly, and alone
    """

    inputs: Mapping[str, Expression]
    follows: Mapping[str, str]


def traced(model: nn.Module) -> Traced | None:
    """The model's wiring; None for a forward that torch.fx cannot follow, because it depends on values."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # any model's forward runs here, with stand-ins for tensors: whatever it raises
        return None
    modules = dict(model.named_modules())
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    values: dict[fx.Node, Expression] = {}
    inputs: dict[str, Expression] = {}
    for node in graph.nodes:
        parts = [values[one] for one in node.all_input_nodes if one in values]
        if node.op == "placeholder":
            values[node] = ""
        elif node.op == "get_attr":
            if node.target in parameters:
                values[node] = str(node.target)
        elif node.op == "call_module" and kind_of(modules[str(node.target)]) != "other":
            name = str(node.target)
            inputs.setdefault(name, combined("inputs", parts))
            values[node] = name
        elif parts and not _is_size(node):
            values[node] = _operation(node, parts, parameters, inputs)
    return Traced(inputs, _follows(graph))


def _follows(graph: fx.Graph) -> dict[str, str]:
    pairs = {}
    for node in graph.nodes:
        before = node.all_input_nodes[0] if len(node.all_input_nodes) == 1 else None
        if node.op == "call_module" and before is not None and before.op == "call_module" and len(before.users) == 1:
            pairs[str(node.target)] = str(before.target)
    return pairs


def _operation(
    node: fx.Node, parts: list[Expression], parameters: set[str], inputs: dict[str, Expression]
) -> Expression:
    """The expression of a function's result; a map times a parameter is that parameter's layer."""
    word = _word(node)
    scales = [part for part in parts if isinstance(part, str) and part in parameters]
    if word == "mul" and len(scales) == 1 and len(parts) == 2:
        scale = str(scales[0])
        inputs[scale] = next(part for part in parts if part is not scales[0])
        return scale
    return combined(word, parts)


def _is_size(node: fx.Node) -> bool:
    """Whether a node gives the shape of a map, which carries none of its values."""
    return node.target in ("size", "dim") or (node.target is getattr and node.args[1] in ("shape", "ndim", "device"))


def _word(node: fx.Node) -> str:
    target: Any = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return _WORDS.get(name, name)
