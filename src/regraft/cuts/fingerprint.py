"""What layers compute beside their tensors, as plain data: methods, settings, and the recorded operations."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from types import FunctionType

import torch
from torch import Tensor, nn

from regraft.cuts.record import Operation, Record
from regraft.tensors.fingerprints import hash_tensors
from regraft.tensors.trees import map_tree

# The size of the head, noted on the whole model by timm and transformers: another head keeps the trunk's features.
OF_THE_HEAD = frozenset({"num_classes", "num_labels"})
# Functions whose whole numbers are factors and bounds; those of others may be sizes, which grow with the example.
ARITHMETIC = frozenset((
    "add", "sub", "mul", "div", "truediv", "true_divide", "floordiv", "floor_divide", "pow", "float_power",
    "rsub", "rpow", "rdiv", "remainder", "fmod", "clamp", "clamp_min", "clamp_max", "clip", "maximum", "minimum",
    "eq", "ne", "lt", "le", "gt", "ge", "masked_fill", "where", "lerp", "addcmul", "addcdiv",
))  # fmt: skip


def class_name(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def settings_of(module: nn.Module) -> dict[str, object]:
    """The module's own numbers, texts and tuples of them, and its extra state; plain data.

    A forward reads them as it reads tensors: `eps`, `num_heads`, `self.scale = 2.0`.
    """
    settings: dict[str, object] = {
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


def _plain(value: object) -> str | None:
    """A text for plain values, None for everything else."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return repr(value)
    if isinstance(value, (tuple, list)) and all(_plain(item) is not None for item in value):
        return repr(value)
    return None


def _state_text(state: object) -> str:
    """Extra state as a text: tensors by their hash, dicts and lists by what they hold, the rest as it prints."""
    if isinstance(state, Tensor):
        return hash_tensors({"": state})
    if isinstance(state, dict):
        return repr({str(name): _state_text(value) for name, value in state.items()})
    if isinstance(state, (list, tuple)):
        return repr([_state_text(value) for value in state])
    return repr(state)


def plain_arguments(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    """The fractions, switches and words among a function's arguments, and in arithmetic the whole numbers."""
    texts: list[str] = []
    is_arithmetic = name.strip("_") in ARITHMETIC

    def note(value: object) -> object:
        if is_arithmetic or not isinstance(value, int) or isinstance(value, bool):
            texts.append(repr(value))
        return value

    map_tree(note, [*args, *(kwargs[name] for name in sorted(kwargs))],
                  kind=(bool, int, float, complex, str, torch.dtype))  # fmt: skip
    return " ".join(texts)


def computation_of(record: Record, operations: Sequence[Operation]) -> list[list[object]]:
    """For each operation: whose forward ran it, its name, its plain arguments, and where its tensors came from.

    What a forward reads beside its arguments is in it: module-level numbers, closures, hooks, other functions, and
    tensors that are neither parameters nor buffers, by their values now.
    """
    order = {operation.index: position for position, operation in enumerate(operations)}

    def origin(index: int) -> str:
        value = record.values[index if record.values[index].base < 0 else record.values[index].base]
        if value.operation in order:
            return f"#{order[value.operation]}"
        digest = "" if value.tensor is None else hash_tensors({"": value.tensor})
        return f"{value.kind} {value.name}{digest}"

    return [
        [record.layer_of(operation), operation.name, operation.plain,
         [origin(argument) for argument in operation.arguments]]
        for operation in operations
    ]  # fmt: skip
