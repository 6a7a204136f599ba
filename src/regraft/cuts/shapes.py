"""The shapes and numbers that the calls and functions of a forward give, and nothing of how they are made.

Three to ten times cheaper than a recording: taken of forwards with other sizes, to learn how shapes grow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regraft.cuts.operators import function_name, plain_arguments
from regraft.tensors.keeping import Forward, shadowed_forwards
from regraft.tensors.trees import numbers_of, tensors_of

Shapes = list[tuple[int, ...]]
CallKey = tuple[str, int]  # the module's name, and how many runs of it came before
FunctionKey = tuple[str, int, str, int]  # that, the function's name, and how many of it came before in that run


@dataclass(frozen=True)
class ForwardShapes:
    """Shapes by what gave them.

    calls      (module, ordinal) → the shapes and plain numbers of its output
    functions  (module, its ordinal, function, ordinal within that call) → the shapes of its result
    numbers    the same → the whole numbers among its arguments
    inputs     the shapes of the arguments' tensors
    """

    calls: dict[CallKey, tuple[Shapes, list[object]]] = field(default_factory=dict)
    functions: dict[FunctionKey, Shapes] = field(default_factory=dict)
    numbers: dict[FunctionKey, tuple[int, ...]] = field(default_factory=dict)
    inputs: Shapes = field(default_factory=list)


def shapes_of_forward(model: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ForwardShapes:
    """Run `model(*args, **kwargs)` once without gradients, in its present mode. The caller restores what it moves."""
    shapes = ForwardShapes(inputs=_shapes((args, dict(kwargs))))
    running: list[CallKey] = []
    counts: dict[str, int] = {}
    modules = {m: n for n, m in model.named_modules() if not isinstance(m, torch.jit.ScriptModule)}
    shadows = {module: _noting(shapes, name, module.forward, running, counts) for module, name in modules.items()}
    with torch.no_grad(), shadowed_forwards(shadows), _Functions(shapes, running):
        model(*args, **kwargs)
    return shapes


def _shapes(value: object) -> Shapes:
    """The shape of each tensor."""
    with torch._C.DisableTorchFunction():
        return [tuple(tensor.shape) for tensor in tensors_of(value)]


def _noting(
    shapes: ForwardShapes, name: str, forward: Forward, running: list[CallKey], counts: dict[str, int]
) -> Forward:
    """A forward that notes what it gives."""

    def forward_and_note(*args: object, **kwargs: object) -> object:
        key = (name, counts.get(name, 0))
        counts[name] = key[1] + 1
        running.append(key)
        try:
            output = forward(*args, **kwargs)
        finally:
            running.pop()
        shapes.calls[key] = (_shapes(output), numbers_of(output))
        return output

    return forward_and_note


class _Functions(TorchFunctionMode):
    """Counts each function of torch as the forward calls it."""

    def __init__(self, shapes: ForwardShapes, running: list[CallKey]) -> None:
        self.shapes, self.running = shapes, running
        self.counts: dict[tuple[CallKey, str], int] = {}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if self.running:
            call, name = self.running[-1], function_name(func)
            ordinal = self.counts[call, name] = self.counts.get((call, name), -1) + 1
            self.shapes.numbers[*call, name, ordinal] = plain_arguments(args, kwargs or {})[1]
            if isinstance(result, (Tensor, tuple, list)):
                self.shapes.functions[*call, name, ordinal] = _shapes(result)
        return result
