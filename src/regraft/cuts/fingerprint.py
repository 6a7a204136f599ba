"""What layers compute beside their tensors, as plain data: methods, settings, and the recorded operations."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType, SimpleNamespace

from torch import Tensor, nn

from regraft.cuts.record import Record, RecordedOperation
from regraft.cuts.sizes import Sizes
from regraft.tensors.fingerprints import hash_tensors

# The size of the head, noted on the whole model by timm and transformers: another head keeps the trunk's features.
OF_THE_HEAD = frozenset({"num_classes", "num_labels"})


def class_name(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def setting_texts(module: nn.Module) -> dict[str, object]:
    """The module's own numbers, texts and tuples of them, and its extra state; plain data.

    A forward reads them as it reads tensors: `eps`, `num_heads`, `self.scale = 2.0`. Numbers count in private
    attributes too, and in objects of settings (`self.config.bound`), whose texts and switches are often notes of
    training.
    """
    settings: dict[str, object] = {}
    for name, value in sorted(vars(module).items()):
        if name in OF_THE_HEAD | {"training", "train"}:
            continue
        plain = _number(value) if name.startswith("_") else _plain(value)
        if plain is not None:
            settings[name] = plain
        elif numbers := _numbers_of(value):
            settings[name] = numbers
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        settings["extra state"] = _state_text(module.get_extra_state())
    return settings


class SettingsWatch:
    """The plain settings of layers at a moment; `changes` lists those that have another value now.

    A layer's `config` object (transformers) counts as well. Whole numbers of the model itself do not: they may be the
    counters of a training loop.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        configs = {id(c): ("config", c) for m in layers.values() if hasattr(c := m.__dict__.get("config"), "__dict__")}
        self.settings = [
            (f"{name}.{key}".lstrip("."), holder, key, value)
            for name, holder in [*layers.items(), *configs.values()]
            for key, value in vars(holder).items()
            if _is_setting(key) and _plain(value) is not None and not (name == "" and type(value) is int)
        ]

    def changes(self) -> list[str]:
        """`norm.eps was 1e-05 and is 0.001`, for each setting that is another one now."""
        current = [(name, value, vars(holder).get(key)) for name, holder, key, value in self.settings]
        return [
            f"{name} was {value!r} and is {now!r}" for name, value, now in current if now is not value and now != value
        ]

    def keep_steady(self, earlier: "SettingsWatch") -> None:
        """Forget what was another setting in an earlier watch: a forward that counts its runs changes no setting."""
        before = {name: value for name, _, _, value in earlier.settings}
        self.settings = [each for each in self.settings if each[0] in before and before[each[0]] == each[3]]


def _is_setting(name: str) -> bool:
    return not name.startswith("_") and name not in OF_THE_HEAD | {"training", "train"}


def source_hash(cls: type) -> str:
    """A hash of the source of the class's methods and of those that it inherits below `nn.Module`.

    With it the plain values of their module that the methods name (`if x.max() > BOUND`), and the sources of the
    functions of their module that they call. `__init__` is left out: what it makes is in tensors and settings. A class
    without a source (typed into an interpreter) is hashed by its methods' code.
    """
    total, seen = hashlib.sha256(), set[str]()
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        for name, method in sorted(vars(base).items()):
            function = getattr(method, "__func__", method)
            if isinstance(function, FunctionType) and name != "__init__":
                total.update(f"{base.__qualname__}.{name}\0{_source(function)}\0".encode())
                total.update("\0".join(_named_by(function, seen)).encode())
    return total.hexdigest()[:16]


def _named_by(function: FunctionType, seen: set[str]) -> Iterator[str]:
    """What a function reads of its module: plain values, and the functions that it calls, with what they read.

    seen  names that were looked at already
    """
    names = _names_in(function.__code__)
    for name in names:
        value = function.__globals__.get(name)
        if name in seen or name.startswith("__"):
            continue
        seen.add(name)
        if value is not None and (plain := _plain(value)) is not None:
            yield f"{name} {plain}"
        elif isinstance(value, FunctionType) and value.__module__ == function.__module__:
            yield f"{name} {_source(value)}"
            yield from _named_by(value, seen)
        elif isinstance(value, ModuleType | type | SimpleNamespace):  # settings.BOUND, as `names` has both words
            held = vars(value)
            yield from (f"{name}.{key} {plain}" for key in names if (plain := _plain(held.get(key))) not in _NOTHING)


_NOTHING = (None, "None")


def _names_in(code: CodeType) -> list[str]:
    """The names that a code and the functions within it look up."""
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names_in(constant)]
    return [*code.co_names, *inner]


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


def _number(value: object) -> str | None:
    """A text for numbers that are no switches."""
    return repr(value) if isinstance(value, (int, float, complex)) and not isinstance(value, bool) else None


def _numbers_of(value: object) -> dict[str, str]:
    """The public numbers of an object of settings; none of what holds tensors or is called."""
    if isinstance(value, (Tensor, nn.Module)) or callable(value):
        return {}
    attributes = sorted(getattr(value, "__dict__", {}).items())
    numbers = {name: _number(item) for name, item in attributes if name not in OF_THE_HEAD and name[:1] != "_"}
    return {name: text for name, text in numbers.items() if text is not None}


def _state_text(state: object) -> str:
    """Extra state as a text: tensors by their hash, dicts and lists by what they hold, the rest as it prints."""
    if isinstance(state, Tensor):
        return hash_tensors({"": state})
    if isinstance(state, dict):
        return repr({str(name): _state_text(value) for name, value in state.items()})
    if isinstance(state, (list, tuple)):
        return repr([_state_text(value) for value in state])
    return repr(state)


def computation_of(record: Record, sizes: Sizes, operations: Sequence[RecordedOperation]) -> list[list[object]]:
    """For each operation: whose forward ran it, its name, its plain arguments, and where its tensors came from.

    Of the whole numbers those that are the same for every number of rows and every length.

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
        [record.layer_of(operation), operation.name, operation.plain, sizes.numbers.get(operation.index, ()),
         [origin(argument) for argument in operation.arguments]]
        for operation in operations
    ]  # fmt: skip
