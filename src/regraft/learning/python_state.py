"""What a model and its loss keep in Python: counters, lists, global settings, generators of random numbers.

A flat list of operators has none of it. A step that changes it must run eagerly, and a step that was only tried must
leave it as it was. What the user changes between epochs is noticed by the same comparison.
"""

import copy
import pickle
import random
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, final

import numpy as np
from torch import Tensor, nn

DEEPEST = 3  # objects in one another that are looked into
LARGE = 1 << 20  # bytes of an array that is data, and not compared
MOST_ITEMS = 10_000  # of a container; a longer one is data, too
OWN = {"_parameters", "_buffers", "_modules", "training"}  # of a module; the learner remembers these
PLAIN = (bool, int, float, complex, str, bytes, type(None))
GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
CONTAINERS = (list, tuple, set, frozenset, deque)
IDENTITY = (Tensor, nn.Module, ModuleType, FunctionType)
SIZED = (Mapping, *CONTAINERS)
LIBRARIES = {"torch", "numpy", "regraft", "builtins"}


@final
@dataclass(frozen=True)
class _Place:
    """A dictionary of attributes or global variables, and what it held.

    names  the global variables that count; None: all attributes but OWN, also those that are added
    """

    owner: dict[str, object]
    names: frozenset[str] | None
    before: dict[str, tuple[object, object]]

    def changed_name(self) -> str:
        """The first that was added, removed, or has another value than before; "" for none."""
        now = _names_of(self.owner, self.names)
        return next((name for name in dict.fromkeys([*self.before, *now]) if self.is_changed(name)), "")

    def is_changed(self, name: str) -> bool:
        """Whether this one was added, removed, or has another value than before."""
        if name not in self.owner or name not in self.before:
            return True
        return bool(_comparable(self.owner[name]) != self.before[name][0])

    def restore(self) -> None:
        """Put back what was changed, and take away attributes that were added."""
        if self.names is None:
            for name in self.owner.keys() - OWN - self.before.keys():
                del self.owner[name]
        for name, (_, value) in self.before.items():
            if self.is_changed(name):
                self.owner[name] = _copied(value)


@final
class PythonState:
    """The attributes of a model's layers and of its loss, and the variables that their code uses, at one moment.

    Seen are the global variables and closures of the loss, of the layers' own `forward` and of functions that they
    call. Not seen: large arrays and containers, and what lies deeper than three objects in one another.
    """

    def __init__(self, model: nn.Module, *losses: Callable[..., object]) -> None:
        self.functions = _functions(model, losses)
        layers = [vars(layer) for layer in model.modules()] + [
            vars(loss) for loss in losses if hasattr(loss, "__dict__")
        ]
        self.attributes = [_place(owner, None) for owner in layers]
        self.variables = [_place(function.__globals__, _names_in(function.__code__)) for function in self.functions]
        self.closures = list(map(_closure_values, self.functions))

    def change(self) -> str:
        """What is no longer as it was, in a word or two; "" where nothing is."""
        for kind, owners in (("attribute", self.attributes), ("global variable", self.variables)):
            for variables in owners:
                if name := variables.changed_name():
                    return f"{kind} {name}"
        if list(map(_closure_values, self.functions)) != self.closures:
            return "a variable of the function around the loss or a layer"
        return ""

    def restore(self) -> None:
        """Attributes and global variables as they were; what a function shares with the one around it stays."""
        for variables in (*self.attributes, *self.variables):
            variables.restore()


def _place(owner: dict[str, object], names: frozenset[str] | None) -> _Place:
    values = {name: owner[name] for name in _names_of(owner, names)}
    return _Place(owner, names, {name: (_comparable(value), _copied(value)) for name, value in values.items()})


def _names_of(owner: Mapping[str, object], names: frozenset[str] | None) -> list[str]:
    return [name for name in owner if (name not in OWN if names is None else name in names)]


def _functions(model: nn.Module, losses: Sequence[Callable[..., object]]) -> list[FunctionType]:
    """The user's own functions that a step runs: the loss, each layer's `forward`, and functions that they name."""
    layers = {type(layer): layer for layer in model.modules()}
    functions = dict.fromkeys(f for start in (*losses, *layers.values()) for f in _code_of(start))
    for _ in range(DEEPEST):
        named = [f.__globals__.get(name) for f in functions for name in _names_in(f.__code__)]
        functions |= dict.fromkeys(f for value in named if isinstance(value, FunctionType) for f in _code_of(value))
    return list(functions)


def _code_of(called: object) -> list[FunctionType]:
    """The Python functions behind something that can be called, but for those of torch and of this package."""
    called = getattr(called, "func", called)  # of functools.partial
    own = [called, *(getattr(called, name, None) for name in ("forward", "__call__"))]
    functions = [getattr(function, "__func__", function) for function in own]
    return [f for f in functions if isinstance(f, FunctionType) and not _is_of_a_library(f)]


def _is_of_a_library(definition: FunctionType | type) -> bool:
    return (definition.__module__ or "").partition(".")[0] in LIBRARIES


def _names_in(code: CodeType) -> frozenset[str]:
    """The names of global variables and attributes in the code, that of functions inside it included."""
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)


def _closure_values(function: FunctionType) -> list[object]:
    """What the function shares with the one that made it."""
    return [_comparable(cell.cell_contents) for cell in function.__closure__ or ()]


def _comparable(value: object, depth: int = 0) -> object:
    """The value as something that can be compared and holds no more than it has to."""
    if isinstance(value, PLAIN):
        return type(value), repr(value)  # repr: NaN equals itself
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes < LARGE else id(value)
    if isinstance(value, GENERATORS):
        return pickle.dumps(value)
    if isinstance(value, type):
        return id(value), _plain_attributes(value)
    if depth == DEEPEST or _counts_as_one(value):
        return id(value)
    if isinstance(value, SIZED):
        return _comparable_parts(value, depth + 1)
    return id(value), _comparable(getattr(value, "__dict__", None), depth + 1)


def _plain_attributes(definition: type) -> list[tuple[str, str]]:
    """What a class of the user's keeps for all of its objects."""
    if _is_of_a_library(definition):
        return []
    return [(name, repr(part)) for name, part in vars(definition).items() if isinstance(part, PLAIN)]


def _counts_as_one(value: object) -> bool:
    """Whether only the object itself is compared: what is written into a tensor is seen by the recording."""
    return isinstance(value, IDENTITY) or (isinstance(value, SIZED) and len(value) > MOST_ITEMS)


def _comparable_parts(value: Mapping[object, object] | Collection[object], depth: int) -> list[object]:
    if isinstance(value, Mapping):
        return [(name, _comparable(part, depth)) for name, part in value.items()]
    return [_comparable(part, depth) for part in value]


def _copied(value: object) -> object:
    """A copy that later changes do not reach; tensors, layers and objects of other classes are the same ones."""
    if isinstance(value, GENERATORS):
        return copy.deepcopy(value)
    if type(value) in COPIES:
        return COPIES[type(value)](value)
    return copy.copy(value) if isinstance(value, dict) else value


COPIES: dict[type, Callable[[Any], object]] = {
    dict: lambda value: {name: _copied(part) for name, part in value.items()},
    list: lambda value: list(map(_copied, value)),
    set: set,
    deque: lambda value: deque(map(_copied, value), value.maxlen),
}
