"""The arguments of another batch beside those of the recorded example: tensors in pairs, all else equal."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType, MethodType
from typing import NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from regraft.cuts.record import Slot
from regraft.errors import SplitError
from regraft.tensors.trees import CONTAINERS, PLAIN, T, find_in, map_tree, parts_of

Pair = tuple[Slot, Tensor]


def by_name(model: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
    """The arguments by the names of the forward's parameters, defaults included."""
    try:
        bound = _signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):  # the model itself will say what is wrong
        return {"args": args, "kwargs": dict(kwargs)}
    bound.apply_defaults()
    return dict(bound.arguments)


def _signature(forward: Callable[..., object]) -> inspect.Signature:
    if not isinstance(forward, MethodType) or not isinstance(forward.__func__, FunctionType):
        return inspect.signature(forward)
    signature = _function_signature(forward.__func__)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@lru_cache(maxsize=16)
def _function_signature(function: FunctionType) -> inspect.Signature:
    """The parameters of a class's forward; reading them takes longer than running a small layer."""
    return inspect.signature(function)


def pairs(
    recorded: object, given: object, *, name: str = "", plain: bool = True, any_count: int = -1
) -> Iterator[Pair]:
    """Each recorded tensor with the given one in its place.

    plain      whether numbers, texts and other values have to be equal, too
    any_count  the length of lists that may be another one: where the examples are the items of lists

    Raises SplitError where the two have another structure.
    """
    if isinstance(recorded, Slot) and isinstance(given, Tensor):
        yield recorded, given
    elif isinstance(recorded, Slot) or isinstance(given, Tensor):
        _refuse(name, recorded, given)
    elif _has_parts(recorded):
        yield from _pairs_of_parts(recorded, given, name, plain, any_count)
    elif plain:
        _refuse_unequal(name, recorded, given)


def _has_parts(recorded: object) -> bool:
    return isinstance(recorded, CONTAINERS) or next(find_in(recorded, Slot), None) is not None


def _pairs_of_parts(recorded: object, given: object, name: str, plain: bool, any_count: int) -> Iterator[Pair]:
    """The pairs of two containers with the same keys; none of two lists of examples that have other lengths."""
    parts, others = parts_of(recorded), parts_of(given)
    if type(recorded) is type(given) and parts.keys() == others.keys():
        for key, part in parts.items():
            yield from pairs(part, others[key], name=f"{name}.{key}".lstrip("."), plain=plain, any_count=any_count)
    elif not (isinstance(recorded, list) and isinstance(given, list) and len(recorded) == any_count):
        _refuse(name, recorded, given)


def _refuse_unequal(name: str, recorded: object, given: object) -> None:
    if not _equal(recorded, given):
        _refuse(name, recorded, given)


def _equal(recorded: object, given: object) -> bool:
    """The same object or an equal value; arrays by their elements."""
    if recorded is given or np.array_equal(cast(ArrayLike, recorded), cast(ArrayLike, given)):
        return True
    return (
        type(recorded) is type(given)
        and not isinstance(recorded, PLAIN)
        and parts_of(recorded) == parts_of(given) != {}
    )


def _refuse(name: str, recorded: object, given: object) -> NoReturn:
    raise SplitError(
        f"The argument {name} is {_shown(given)}; on the example it was {_shown(recorded)}: the head runs with the "
        "example's.\nSplit again on such a batch, or pass what varies as a tensor."
    )


def _shown(value: object) -> str:
    if isinstance(value, (Slot, Tensor)):
        return "a tensor"
    if isinstance(value, CONTAINERS):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:60]


class ReadError(SplitError):
    """The head looked at a plain argument."""


class Unread:
    """Stands for a plain argument (a number, a text) in a trial run of the head: whoever looks at it fails."""

    def _read(self, *_: object) -> NoReturn:
        raise ReadError("The head reads an argument that is not a tensor.")

    __bool__ = __len__ = __iter__ = __next__ = __getitem__ = __contains__ = __call__ = __getattr__ = _read
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __index__ = __int__ = __float__ = _read
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _read
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __str__ = __format__ = _read


def unread(arguments: T) -> T:
    """The arguments with an `Unread` in the place of every plain value."""
    return map_tree(lambda _: Unread(), arguments, kind=(str, bytes, bool, int, float, complex, type(None)))
