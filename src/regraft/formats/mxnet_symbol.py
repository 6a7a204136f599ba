"""MXNet's `-symbol.json`: the operators of a network, their settings, and how they are connected.

Source: apache/mxnet 1.9, src/operator/nn/*.cc (the defaults of each operator's settings).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.containers.json_text import json_file
from regraft.errors import CheckpointError

_JOINS = {
    "elemwise_add": "Add", "_Plus": "Add", "_plus": "Add", "broadcast_add": "Add", "add_n": "Add",
    "ElementWiseSum": "Add", "elemwise_mul": "Multiply", "_mul": "Multiply", "broadcast_mul": "Multiply",
    "Concat": "Concat", "concat": "Concat",
}  # fmt: skip
_WORDS = {"SoftmaxOutput": "Softmax", "SoftmaxActivation": "Softmax", "softmax": "Softmax", "Flatten": "Flatten",
          "flatten": "Flatten", "Dropout": "Dropout", "Reshape": "Reshape", "reshape": "Reshape", "Pad": "Pad",
          "pad": "Pad", "identity": "Identity", "_copy": "Identity"}  # fmt: skip
_SOFTMAX = ("SoftmaxOutput", "SoftmaxActivation", "softmax")
_ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softrelu": "softplus"}


@dataclass(frozen=True)
class SymbolNode:
    """An operator, or a variable ("null").

    settings  as the symbol writes them: all values are texts
    inputs    indices of the nodes that feed it
    """

    name: str
    operator: str
    settings: Mapping[str, str]
    inputs: tuple[int, ...]

    def flag(self, setting: str, *, default: bool) -> bool:
        """A truth value: "True", "true" or "1"."""
        return self.settings.get(setting, str(default)).lower() in ("true", "1")

    def real(self, setting: str, default: float) -> float:
        """A real number; the default for a text that is none."""
        try:
            return float(self.settings.get(setting, default))
        except ValueError:
            return default

    def sizes(self, setting: str, default: int) -> list[int]:
        """A tuple such as "(3, 3)", for each axis of the kernel."""
        rank = len(_numbers(self.settings.get("kernel", "(1, 1)")))
        return _numbers(self.settings.get(setting, "")) or [default] * rank


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", text)]


@dataclass(frozen=True)
class Symbol:
    """The nodes in the order in which they are computed."""

    nodes: Sequence[SymbolNode] = ()

    def owners(self) -> dict[str, SymbolNode]:
        """Array name → the first operator that it feeds, in the order of the graph."""
        owners: dict[str, SymbolNode] = {}
        for node in self.nodes:
            for index in node.inputs:
                if self.nodes[index].operator == "null":
                    owners.setdefault(self.nodes[index].name, node)
        return owners

    def requirements(self, arrays: Mapping[str, object]) -> Iterator[Requirement]:
        """The settings of the operators that hold arrays, then how all operators are connected.

        arrays  the names of the arrays in the file; other variables are the network's inputs
        """
        holders = {owner.name: owner for owner in self.owners().values()}
        for node in holders.values():
            yield from requirements_for(node.name, self._settings(node))
        yield from self._wiring(holders, arrays)

    def _settings(self, node: SymbolNode) -> Facts:
        kind = "BatchNorm" if node.operator.startswith("BatchNorm") else node.operator
        facts = _OF_OPERATOR[kind](node) if kind in _OF_OPERATOR else {}
        pad = self.nodes[node.inputs[0]] if node.inputs else None
        if kind == "Convolution" and pad is not None and pad.operator.lower() == "pad":
            facts |= {"padding": _padded(node, pad), "padding_layer": pad.name}
        return facts

    def _wiring(self, holders: Mapping[str, SymbolNode], arrays: Mapping[str, object]) -> Iterator[Requirement]:
        labels: list[str | None] = []
        for node in self.nodes:
            inputs = node.inputs[:1] if node.name in holders or node.operator in _SOFTMAX else node.inputs
            feeding = [label for index in inputs if (label := labels[index]) is not None]
            if node.operator == "null":
                labels.append(None if node.name in arrays else "")
                continue
            labels.append(node.name if feeding else None)
            if feeding:
                yield Requirement(node.name, "inputs", feeding)
                yield from _described(node, is_layer=node.name in holders)


def read_symbol(path: Path) -> Symbol:
    """The symbol in a JSON file. Raises CheckpointError when it is none."""
    try:
        nodes = tuple(_node(entry, number) for number, entry in enumerate(json_file(path)["nodes"]))
    except (CheckpointError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: this file beside the .params file is not an MXNet symbol ({type(error).__name__}: {error}).\n"
            "Repair it, or move it to another folder to read the arrays without it."
        ) from error
    return Symbol(nodes)


def _described(node: SymbolNode, *, is_layer: bool) -> Iterator[Requirement]:
    """What a node does; a layer's settings are listed with its arrays."""
    yield Requirement(node.name, "operation", node.operator if is_layer else _operation(node))
    if not is_layer:
        yield from requirements_for(node.name, _step(node))


def _node(entry: Mapping[str, object], number: int) -> SymbolNode:
    settings = entry.get("attrs") or entry.get("attr") or entry.get("param") or {}
    listed = entry["inputs"]
    if not isinstance(settings, dict) or not isinstance(listed, list):
        raise TypeError("its settings or inputs are damaged")
    inputs = tuple(int(source[0]) for source in listed)
    if any(not 0 <= index < number for index in inputs):
        raise IndexError("a node takes one that comes behind it")
    return SymbolNode(str(entry["name"]), str(entry["op"]), {str(k): str(v) for k, v in settings.items()}, inputs)


def _convolution(node: SymbolNode) -> Facts:
    return {
        "strides": node.sizes("stride", 1),
        "padding": [[pad, pad] for pad in node.sizes("pad", 0)],
        "dilation": node.sizes("dilate", 1),
        "groups": int(node.real("num_group", 1)),
        "use_bias": not node.flag("no_bias", default=node.operator == "Deconvolution"),
    }


def _batch_norm(node: SymbolNode) -> Facts:
    return {"eps": node.real("eps", 1e-3), "momentum": node.real("momentum", 0.9)}


def _norm(node: SymbolNode) -> Facts:
    return {"eps": node.real("eps", 1e-3 if node.operator == "InstanceNorm" else 1e-5)}


_OF_OPERATOR: dict[str, Callable[[SymbolNode], Facts]] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "BatchNorm": _batch_norm,
    "FullyConnected": lambda node: {"use_bias": not node.flag("no_bias", default=False)},
    **dict.fromkeys(("LayerNorm", "InstanceNorm", "GroupNorm"), _norm),
}


def _padded(node: SymbolNode, pad: SymbolNode) -> object:
    """The padding of a convolution behind a Pad; in words when it is no number of zeros."""
    widths = _numbers(pad.settings.get("pad_width", ""))
    own = node.sizes("pad", 0)
    sides = [list(pair) for pair in zip(widths[4::2], widths[5::2], strict=False)]
    mode = pad.settings.get("mode", "constant")
    if mode != "constant":
        return f"{mode} of {sides}"
    if len(sides) != len(own) or any(widths[:4]) or pad.real("constant_value", 0.0) != 0:
        return "computed by the graph"
    return [[low + extra, high + extra] for (low, high), extra in zip(sides, own, strict=True)]


def _operation(node: SymbolNode) -> str:
    """What an operator without arrays does, in Keras' words; MXNet's own where there are none."""
    if node.operator == "Pooling":
        kind = "Max" if node.settings.get("pool_type", "max") == "max" else "Average"
        return f"Global{kind}Pooling2D" if node.flag("global_pool", default=False) else f"{kind}Pooling2D"
    return _JOINS.get(node.operator) or _WORDS.get(node.operator, node.operator)


def _step(node: SymbolNode) -> Facts:
    """What a pooling, a padding or an activation does."""
    if node.operator == "Pooling" and not node.flag("global_pool", default=False):
        return _pooling(node)
    activation = _activation(node)
    return {"activation": activation} if activation else {}


def _activation(node: SymbolNode) -> str:
    """The word for an activation; "" for other operators."""
    match node.operator:
        case "Activation":
            word = node.settings.get("act_type", "")
            return _ACTIVATIONS.get(word, word or "unknown")
        case "LeakyReLU":
            word = {"leaky": "leaky_relu", "elu": "elu"}.get(node.settings.get("act_type", "leaky"), "")
            return word and f"{word}({node.real('slope', 0.25):g})"
        case "clip":
            return "relu6" if (node.real("a_min", -1.0), node.real("a_max", -1.0)) == (0.0, 6.0) else "clip"
        case "relu" | "sigmoid" | "tanh":
            return node.operator
    return "softmax" if node.operator in _SOFTMAX else ""


def _pooling(node: SymbolNode) -> Facts:
    kind = node.settings.get("pool_type", "max")
    if kind not in ("max", "avg"):
        return {}
    return {
        "pool": "max" if kind == "max" else "average",
        "pool_size": node.sizes("kernel", 1),
        "strides": node.sizes("stride", 1),
        "padding": [[pad, pad] for pad in node.sizes("pad", 0)],
        "count_include_pad": node.flag("count_include_pad", default=True),
        "ceil_mode": node.settings.get("pooling_convention", "valid") == "full",
    }
