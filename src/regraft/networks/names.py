"""Names of a file's layers as torch and Python take them: paths of modules, attributes, variables."""

import builtins
import keyword
import re
from collections.abc import Iterable, Sequence
from unicodedata import normalize

from torch import nn

from regraft.networks.runtime_functions import FRAME, HELPERS

_RESERVED = frozenset(dir(nn.Module())) | {"nn", "F", "torch"}
_IN_DICT = frozenset(dir(nn.ModuleDict()))
_USED = frozenset({"self", "device", *dir(builtins), *FRAME, *HELPERS})  # by the code beside its own variables


def module_path(layer: str) -> str:
    """The path of a layer's module: the parts of its name joined by dots, each as torch takes it.

    >>> module_path("block_1/expand"), module_path("layer1.0.conv1"), module_path("a:0/forward")
    ('block_1.expand', 'layer1.0.conv1', 'a_0.forward_')
    """
    parts = [part for part in re.split(r"[/.]", layer) if part]
    return ".".join(map(_legal, parts)) or "layer"


def tensor_path(name: str) -> str:
    """The path of an array that belongs to no layer.

    >>> tensor_path("encoder/position:0")
    'encoder.position_0'
    """
    home, _, leaf = module_path(name).rpartition(".")
    leaf = leaf if leaf.isidentifier() else f"array_{leaf}"
    return f"{home}.{leaf}" if home else leaf


def _legal(part: str) -> str:
    name = re.sub(r"\W", "_", normalize("NFKC", part))  # Python reads identifiers in this form
    name = f"n{name}" if name.startswith("__") else name  # Python would put the class's name before it
    return f"{name}_" if name in _RESERVED or name in _IN_DICT or keyword.iskeyword(name) else name


class Paths:
    """A module path for each layer, no two the same."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.taken: set[str] = set()

    def path(self, layer: str) -> str:
        """The layer's path."""
        if layer not in self.of:
            self.of[layer] = self.unused(module_path(layer))
        return self.of[layer]

    def unused(self, path: str) -> str:
        """The path, with a number where it is taken; reserved from now on."""
        number, free = 2, path
        while free in self.taken:
            free, number = f"{path}_{number}", number + 1
        self.taken.add(free)
        return free


def expression(path: str, lists: Iterable[str]) -> str:
    """The Python expression of a module's path: lists are indexed by number, dicts by text.

    lists  the paths of modules that are lists

    >>> expression("layer1.0.conv", ["layer1"]), expression("a.0", []), expression("stem.conv", [])
    ('self.layer1[0].conv', 'self.a["0"]', 'self.stem.conv')
    >>> expression("0.conv", [])  # a module has no items of its own
    'self._modules["0"].conv'
    """
    known, text, before = set(lists), "self", ""
    for part in path.split("."):
        if part.isidentifier():
            text += f".{part}"
        elif not before:
            text += f'._modules["{part}"]'
        else:
            text += f"[{part}]" if before in known else f'["{part}"]'
        before = f"{before}.{part}" if before else part
    return text


def children_of(paths: Sequence[str]) -> dict[str, list[str]]:
    """Path of a module that holds others → the names of these, in order."""
    children: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split(".")
        for depth, part in enumerate(parts):
            names = children.setdefault(".".join(parts[:depth]), [])
            if part not in names:
                names.append(part)
    return children


class Variables:
    """Names of variables in the order in which a person would take them; a name is free when its value is used up."""

    def __init__(self) -> None:
        self.holder: dict[str, str] = {}  # variable → the value that it holds

    def take(self, value: str, wish: str = "") -> str:
        """A free variable for the value, the wish if it is free."""
        candidates = [wish] if wish else []
        candidates += ["x", "y", "z", "u", "v", "w"]
        name = next((name for name in candidates if name not in self.holder), "")
        number = 1
        while not name:
            name = f"x{number}" if f"x{number}" not in self.holder else ""
            number += 1
        self.holder[name] = value
        return name

    def copied(self) -> "Variables":
        """The same names in use, for a branch of the code."""
        other = Variables()
        other.holder = dict(self.holder)
        return other

    def release(self, value: str) -> None:
        """The value is used up."""
        for name in [name for name, held in self.holder.items() if held == value]:
            del self.holder[name]


def variable_name(text: str) -> str:
    """A text as a variable's name.

    >>> variable_name("input:0"), variable_name("class")
    ('input_0', 'class_')
    """
    name = re.sub(r"\W", "_", normalize("NFKC", text)).strip("_") or "x"
    name = name if name.isidentifier() else f"x_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in _USED else name
