"""A torch model's graph of layers, from its own forward, without running it."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn

from regraft.plans.describing import kind_of
from regraft.plans.graphs import Expression, combined, stepped
from regraft.plans.steps import CallStep, Unknown
from regraft.plans.torch_steps import steps_of_call, steps_of_module

_WORDS = {
    "add": "add", "iadd": "add", "add_": "add", "mul": "mul", "imul": "mul", "mul_": "mul", "multiply": "mul",
    "cat": "cat", "concat": "cat", "concatenate": "cat",
}  # fmt: skip


class _Tracer(fx.Tracer):
    """Stops at layers whose arrays we know, and at modules without any array.

    is_deep   look into modules without arrays whose step is not known by their class
    """

    def __init__(self, *, is_deep: bool) -> None:
        super().__init__()
        self.is_deep = is_deep

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if kind_of(m) != "other":
            return True
        has_arrays = any(True for _ in m.parameters())
        return not has_arrays and not (self.is_deep and _is_unknown(m))


def _is_unknown(module: nn.Module) -> bool:
    return any(isinstance(step.function, Unknown) for step in steps_of_module(module, ""))


@dataclass(frozen=True)
class Traced:
    """The wiring of a model of ours.

    inputs   layer → what feeds it; a parameter that scales a map counts as a layer under its own name
    follows  layer → the layer whose output it takes directly, and alone
    output   what the model gives
    joins    sum, product, concatenation … → the call that makes it
    calls    layer → the call of it
    maps     the operands of calls that are still maps: nothing before them has flattened or averaged all places away
    """

    inputs: Mapping[str, Expression]
    follows: Mapping[str, str]
    output: Expression = ""
    joins: Mapping[Expression, CallStep] = field(default_factory=dict)
    calls: Mapping[str, CallStep] = field(default_factory=dict)
    maps: Set[CallStep] = frozenset()


def traced(model: nn.Module) -> Traced | None:
    """The model's wiring; None for a forward that torch.fx cannot trace, because it depends on values."""
    graph = _graph(model, is_deep=True) or _graph(model, is_deep=False)
    if graph is None:
        return None
    reader = _Reader(model)
    for node, call in calls_of(graph).items():
        reader.read(node, call)
    return Traced(reader.inputs, _follows(graph), reader.output, reader.joins, reader.calls, _maps(graph, reader))


def _graph(model: nn.Module, *, is_deep: bool) -> fx.Graph | None:
    try:
        return _Tracer(is_deep=is_deep).trace(model)
    except Exception:  # any model's forward runs here, with stand-ins for tensors: whatever it raises
        return None


class _Reader:
    """Goes along a traced graph, and keeps the expression of each value."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        self.values: dict[fx.Node, Expression] = {}
        self.inputs: dict[str, Expression] = {}
        self.joins: dict[Expression, CallStep] = {}
        self.calls: dict[str, CallStep] = {}
        self.output: Expression = ""

    def read(self, node: fx.Node, call: CallStep) -> None:
        """Keep what the node computes."""
        parts = [self.values[source] for source in _sources(node) if source in self.values]
        target = str(node.target)
        if node.op == "output":
            self.output = combined("outputs", parts)
        elif node.op == "placeholder":
            self.values[node] = ""
        elif node.op == "call_module":
            self.values[node] = self._layer(self.modules[target], target, parts, call)
        elif self._is_parameter(target):
            self.values[node] = target
        elif parts and not _is_size(node):
            self.values[node] = self._operation(node, parts, call)

    def _layer(self, module: nn.Module, name: str, parts: list[Expression], call: CallStep) -> Expression:
        """A layer's own name, behind the activation that it holds; a module without arrays is a step."""
        before = combined("inputs", parts)
        if kind_of(module) == "other":
            return stepped(steps_of_module(module, name), before)
        self.inputs.setdefault(name, before)
        self.calls.setdefault(name, call)
        act = getattr(module, "act", None)  # timm's norms with an activation inside
        return stepped(steps_of_module(act, f"{name}.act") if isinstance(act, nn.Module) else (), name)

    def _operation(self, node: fx.Node, parts: list[Expression], call: CallStep) -> Expression:
        """The expression of a function's result; a map times a parameter is that parameter's layer."""
        word = word_of(node)
        scales = list(filter(self._is_parameter, parts))
        if word == "mul" and len(scales) == 1 and len(parts) == 2:
            scale = str(scales[0])
            self.inputs[scale] = parts[0] if parts[1] is scales[0] else parts[1]
            return scale
        # Other parameters (a position table, a class token) are no layers: what they are added to is.
        maps = [part for part in parts if not self._is_parameter(part) or part in self.inputs]
        if len(maps) == 1:
            return stepped(steps_of_call(word, node.args, node.kwargs, call), maps[0])
        joined = combined(word, maps or parts)
        self.joins[joined] = call
        return joined

    def _is_parameter(self, part: Expression) -> bool:
        return isinstance(part, str) and part in self.parameters


def calls_of(graph: fx.Graph) -> dict[fx.Node, CallStep]:
    """Node → the module whose forward makes it, and the call's name there: a child's, or a function's with a number."""
    counts: Counter[tuple[str, str]] = Counter()
    calls = {}
    for node in graph.nodes:
        owners = ["", *(name for name, _ in node.meta.get("nn_module_stack", {}).values())]
        if node.op == "call_module":
            owner = owners[-2] if len(owners) > 1 else ""
            calls[node] = CallStep(owner, str(node.target).removeprefix(owner).removeprefix("."))
            continue
        owner, word = owners[-1], word_of(node)
        number = counts[owner, word]
        counts[owner, word] += 1
        calls[node] = CallStep(owner, f"{word}_{number}" if number else word)
    return calls


# What leaves no map behind: there is no place left to pool.
_FLAT_WORDS = frozenset({"flatten", "flatten_", "mean", "view", "reshape", "squeeze", "sum", "getitem", "permute"})
_FLAT_MODULES = (nn.Flatten, nn.Linear, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
_MAP_KINDS = ("conv", "depthwise", "conv_transpose")


def _maps(graph: fx.Graph, reader: "_Reader") -> Set[CallStep]:
    """The operands of calls that are maps."""
    flat: set[fx.Node] = set()
    maps: set[CallStep] = set()
    for node, call in calls_of(graph).items():
        operands = operands_of(node)
        maps |= {replace(call, operand=index) for index, argument in enumerate(operands) if not _is_in(argument, flat)}
        module = reader.modules.get(str(node.target)) if node.op == "call_module" else None
        gives_map = module is not None and kind_of(module) in _MAP_KINDS
        flattens = isinstance(module, _FLAT_MODULES) or word_of(node).startswith(("adaptive_", *_FLAT_WORDS))
        if flattens or (not gives_map and not flat.isdisjoint(node.all_input_nodes)):
            flat.add(node)
    return maps


def _is_in(operand: object, nodes: Set[fx.Node]) -> bool:
    return isinstance(operand, fx.Node) and operand in nodes


def operands_of(node: fx.Node) -> Sequence[Any]:
    """The inputs of a call; of a concatenation those in its list."""
    return node.args[0] if node.args and isinstance(node.args[0], (list, tuple)) else node.args


def _follows(graph: fx.Graph) -> dict[str, str]:
    """Module → the module whose output it takes alone, and which feeds nothing else."""
    pairs = {}
    for node in graph.nodes:
        before = node.all_input_nodes[0] if node.op == "call_module" and len(node.all_input_nodes) == 1 else None
        if before is not None and before.op == "call_module" and len(before.users) == 1:
            pairs[str(node.target)] = str(before.target)
    return pairs


def _sources(node: fx.Node) -> list[fx.Node]:
    """The nodes that a node takes; x twice for x · x."""
    twice = [argument for argument in node.args if isinstance(argument, fx.Node)]
    return twice if len(twice) == 2 and twice[0] is twice[1] else node.all_input_nodes


def _is_size(node: fx.Node) -> bool:
    """Whether a node gives the shape of a map, which carries none of its values."""
    return node.target in ("size", "dim") or (node.target is getattr and node.args[1] in ("shape", "ndim", "device"))


def word_of(node: fx.Node) -> str:
    """What a node's function is called, in one word for all its spellings."""
    target: Any = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return _WORDS.get(name, name)
