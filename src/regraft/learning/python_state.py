"""What a model keeps outside of its tensors: counters, lists, generators of random numbers.

A flat list of operators has none of it. A step that changes it has to run as it is written, and a step that was only
tried has to leave it as it was.
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


@final
class PythonState:
    """Attributes of a model's layers and of its loss, and where Python's generators stand, at one moment.

    Not seen: global variables, large arrays, and what lies deeper than three objects in one another.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        self.loss = loss
        self.places = [vars(layer) for layer in model.modules()] + ([vars(loss)] if hasattr(loss, "__dict__") else [])
        self.before = [
            {name: (_told(value), _copied(value)) for name, value in place.items() if name not in OWN}
            for place in self.places
        ]
        self.shared = _closure(loss)
        self.drawn = (random.getstate(), np.random.get_state())

    def changed(self) -> str:
        """What is no longer as it was, in a word or two; "" where nothing is."""
        for place, before in zip(self.places, self.before, strict=True):
            for name in {**before, **place}:
                if name not in OWN and (
                    name not in place or name not in before or _told(place[name]) != before[name][0]
                ):
                    return f"attribute {name}"
        if _closure(self.loss) != self.shared:
            return "loss's own variables"
        same = _told((random.getstate(), np.random.get_state())) == _told(self.drawn)
        return "" if same else "random draws of Python or NumPy"

    def restore(self) -> None:
        """Attributes and generators as they were; what the loss shares with the function around it stays."""
        for place, before in zip(self.places, self.before, strict=True):
            for name in [name for name in place if name not in OWN and name not in before]:
                del place[name]
            for name, (told, value) in before.items():
                if name not in place or _told(place[name]) != told:
                    place[name] = _copied(value)
        random.setstate(self.drawn[0])
        np.random.set_state(self.drawn[1])


def _closure(function: Callable[..., Any]) -> list[Any]:
    """What the function shares with the one that made it."""
    return [_told(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]


def _told(value: Any, depth: int = 0) -> Any:
    """The value as something that can be compared and holds no more than it has to."""
    if isinstance(value, PLAIN):
        return type(value), repr(value)  # repr: a number that is none equals itself
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes < LARGE else id(value)
    if isinstance(value, GENERATORS):
        return pickle.dumps(value)
    if isinstance(value, (Tensor, nn.Module, type, ModuleType)) or depth == DEEPEST:
        return id(value)  # what is written into a tensor is seen by the recording
    if isinstance(value, Mapping):
        return [(name, _told(one, depth + 1)) for name, one in value.items()]
    if isinstance(value, CONTAINERS):
        return [_told(one, depth + 1) for one in value]
    return id(value), _told(getattr(value, "__dict__", None), depth + 1)


def _copied(value: Any) -> Any:
    """A copy that later changes do not reach; tensors, layers and objects of other classes are the same ones."""
    if isinstance(value, GENERATORS):
        return copy.deepcopy(value)
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()} if type(value) is dict else copy.copy(value)
    if type(value) in (list, set):
        return type(value)(_copied(one) for one in value)
    if type(value) is deque:
        return deque(map(_copied, value), value.maxlen)
    return value
