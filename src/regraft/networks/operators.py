"""What an operator of a network is: how it is written in Python, and in which order it takes its axes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.networks.axis_orders import Arrange, Held, any_order
from regraft.networks.network import Settings
from regraft.operations.operation import Shape

Write = Callable[["OperatorCall"], str]


@dataclass(frozen=True)
class OperatorCall:
    """One use of an operator, ready to be written.

    settings  with axes as the code has them
    texts     the inputs as Python expressions; "None" for one that is left out
    values    the same inputs with their shapes, None for one that is left out
    shapes    of the layer's arrays
    module    the layer in the code, "self.block_1.expand"; "" for a step
    """

    settings: Settings
    texts: tuple[str, ...]
    values: tuple[Held | None, ...] = ()
    shapes: Mapping[str, Shape] = ()  # type: ignore[assignment]
    module: str = ""

    @property
    def first(self) -> Held:
        """The first input."""
        value = self.values[0]
        assert value is not None
        return value


@dataclass(frozen=True)
class Operator:
    """One entry of the vocabulary.

    text     the expression: a template over {0}, {1} … for the inputs, {module}, and the settings' names; or a function
    arrange  in which order it takes its axes
    layer    writes the constructor of torch's layer; None for a step
    sizes    the expression for sizes, which are numbers of Python; None: sizes become tensors first
    flat     whether it may take a flattened map whose values are in the code's order
    """

    text: str | Write
    arrange: Arrange = any_order
    layer: Write | None = None
    sizes: Write | None = None
    flat: bool = False

    def written(self, call: OperatorCall) -> str:
        """The expression."""
        return written(self.text, call)


def written(text: str | Write, call: OperatorCall) -> str:
    """The template, filled."""
    if not isinstance(text, str):
        return text(call)
    settings = {name: python(value) for name, value in call.settings.items()}
    return text.format(*call.texts, module=call.module, **settings)


def python(value: object) -> str:
    """A setting as Python writes it; float("inf") where it is infinite."""
    if isinstance(value, float):
        return repr(value) if value - value == 0 else f'float("{value}")'
    if isinstance(value, list | tuple):
        inner = ", ".join(map(python, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def per_side(value: Any) -> Any:
    """One number where all axes have the same: (3, 3) → 3."""
    is_flat = isinstance(value, list | tuple) and not any(isinstance(part, list | tuple) for part in value)
    if is_flat and len(set(value)) == 1:
        return value[0]
    return tuple(value) if isinstance(value, list) else value


def arguments(*positional: object, **named: object) -> str:
    """Arguments of a call, without those that are None."""
    parts = [python(per_side(value)) for value in positional]
    parts += [f"{name}={python(per_side(value))}" for name, value in named.items() if value is not None]
    return ", ".join(parts)


def unless(value: object, default: object) -> Any:
    """The value, None for the default that need not be written."""
    return None if per_side(value) == default else value


Pads = Sequence[Sequence[int]]


def flat_pads(pads: Pads) -> tuple[int, ...]:
    """The widths as F.pad takes them: the last axis first, axes without padding at the front left out."""
    kept = list(pads)
    while kept and not any(kept[0]):
        kept.pop(0)
    return tuple(width for pair in reversed(kept) for width in pair)
