"""What a model keeps outside of its tensors: counters, lists, generators of random numbers of its own.

A flat list of operators has none of it. A step that changes it must run eagerly, and a step that was only tried must
leave it as it was.
"""

import copy
import pickle
import random
from collections import deque
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, final

import numpy as np
from torch import Tensor, nn

DEEPEST = 3  # objects in one another that are looked into
LARGE = 1 << 20  # bytes of an array that is data, and not compared
OWN = {"_parameters", "_buffers", "_modules", "training"}  # of a module; the learner remembers these
PLAIN = (bool, int, float, complex, str, bytes, type(None))
GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
CONTAINERS = (list, tuple, set, frozenset, deque)
IDENTITY = (Tensor, nn.Module, type, ModuleType)


@final
class PythonState:
    """The attributes of a model's layers and of its loss at one moment.

    Not seen: large arrays, and what lies deeper than three objects in one another.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        self.loss = loss
        self.owners = [vars(layer) for layer in model.modules()] + ([vars(loss)] if hasattr(loss, "__dict__") else [])
        self.before = [
            {name: (_comparable(value), _copied(value)) for name, value in owner.items() if name not in OWN}
            for owner in self.owners
        ]
        self.closure = _closure_values(loss)

    def change(self) -> str:
        """What is no longer as it was, in a word or two; "" where nothing is."""
        for owner, before in zip(self.owners, self.before, strict=True):
            for name in {**before, **owner}:
                if name not in OWN and _is_changed(name, owner, before):
                    return f"attribute {name}"
        return "the loss's own variables" if _closure_values(self.loss) != self.closure else ""

    def restore(self) -> None:
        """Attributes as they were; what the loss shares with the function around it stays."""
        for owner, before in zip(self.owners, self.before, strict=True):
            for name in [name for name in owner if name not in OWN and name not in before]:
                del owner[name]
            for name, (_, value) in before.items():
                if _is_changed(name, owner, before):
                    owner[name] = _copied(value)


def _is_changed(name: str, owner: Mapping[str, Any], before: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether this attribute was added, removed, or has another value than before."""
    return name not in owner or name not in before or _comparable(owner[name]) != before[name][0]


def _closure_values(function: Callable[..., Any]) -> list[Any]:
    """What the function shares with the one that made it."""
    return [_comparable(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]


def _comparable(value: Any, depth: int = 0) -> Any:
    """The value as something that can be compared and holds no more than it has to."""
    if isinstance(value, PLAIN):
        return type(value), repr(value)  # repr: NaN equals itself
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes < LARGE else id(value)
    if isinstance(value, GENERATORS):
        return pickle.dumps(value)
    if isinstance(value, IDENTITY) or depth == DEEPEST:
        return id(value)  # what is written into a tensor is seen by the recording
    if isinstance(value, Mapping):
        return [(name, _comparable(part, depth + 1)) for name, part in value.items()]
    if isinstance(value, CONTAINERS):
        return [_comparable(part, depth + 1) for part in value]
    return id(value), _comparable(getattr(value, "__dict__", None), depth + 1)


def _copied(value: Any) -> Any:
    """A copy that later changes do not reach; tensors, layers and objects of other classes are the same ones."""
    if isinstance(value, GENERATORS):
        return copy.deepcopy(value)
    if isinstance(value, dict) and type(value) is not dict:
        return copy.copy(value)
    if type(value) is dict:
        return {name: _copied(part) for name, part in value.items()}
    if type(value) in (list, set):
        return type(value)(map(_copied, value))
    if type(value) is deque:
        return deque(map(_copied, value), value.maxlen)
    return value
