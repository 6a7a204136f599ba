"""What a module computes beside its tensors, as plain data: its class's methods and its own settings."""

import hashlib
import inspect
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from regraft.tensors.fingerprints import hash_tensors

# The size of the head, noted on the whole model by timm and transformers: another head keeps the trunk's features.
OF_THE_HEAD = frozenset({"num_classes", "num_labels"})


def class_name(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def settings_of(module: nn.Module) -> dict[str, Any]:
    """The module's own numbers, texts and tuples of them, and its extra state; plain data.

    A forward reads them as it reads tensors: `eps`, `num_heads`, `self.scale = 2.0`.
    """
    settings = {
        name: plain
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name not in OF_THE_HEAD | {"training", "train"}
        and (plain := _plain(value)) is not None
    }  # fmt: skip
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        settings["extra state"] = _state_text(module.get_extra_state())
    return settings


def source_hash(cls: type) -> str:
    """A hash of the source of the class's methods and of those that it inherits below `nn.Module`.

    `__init__` is left out: what it makes is in the tensors and settings. A class without a source (typed into an
    interpreter) is hashed by its methods' code.
    """
    total = hashlib.sha256()
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        for name, method in sorted(vars(base).items()):
            function = getattr(method, "__func__", method)
            if isinstance(function, FunctionType) and name != "__init__":
                total.update(f"{base.__qualname__}.{name}\0{_source(function)}\0".encode())
    return total.hexdigest()[:16]


def _source(function: FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return f"{function.__code__.co_code.hex()} {function.__code__.co_names} {function.__code__.co_consts}"


def _plain(value: Any) -> str | None:
    """A text for plain values, None for everything else."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)
    if isinstance(value, (tuple, list)) and all(_plain(item) is not None for item in value):
        return repr(value)
    return None


def _state_text(state: Any) -> str:
    """Extra state as a text: tensors by their hash, dicts and lists by what they hold, the rest as it prints."""
    if isinstance(state, Tensor):
        return hash_tensors({"": state})
    if isinstance(state, dict):
        return repr({str(name): _state_text(value) for name, value in state.items()})
    if isinstance(state, (list, tuple)):
        return repr([_state_text(value) for value in state])
    return repr(state)
