"""The outline of a forward: the shapes and numbers that its calls and functions give, and nothing of how they are made.

Cheaper than a recording: it is taken of forwards with other sizes, to learn how shapes grow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regraft.cuts.operators import function_name
from regraft.cuts.recording import shadowed_forwards
from regraft.tensors.trees import numbers_of, tensors_of

Shapes = list[tuple[int, ...]]
CallKey = tuple[str, int]  # the module's name, and how many runs of it came before


@dataclass
class Outline:
    """Shapes by what gave them.

    calls      (module, ordinal) → the shapes and plain numbers of its output
    functions  (module, its ordinal, function, ordinal within that call) → the shapes of its result
    inputs     the shapes of the arguments' tensors
    """

    calls: dict[CallKey, tuple[Shapes, list[Any]]] = field(default_factory=dict)
    functions: dict[tuple[str, int, str, int], Shapes] = field(default_factory=dict)
    inputs: Shapes = field(default_factory=list)


def outline_forward(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> Outline:
    """Run `model(*args, **kwargs)` once without gradients, in its present mode. The caller restores what it moves."""
    outline = Outline(inputs=_shapes((args, dict(kwargs))))
    running: list[CallKey] = []
    counts: dict[str, int] = {}
    modules = {m: n for n, m in model.named_modules() if not isinstance(m, torch.jit.ScriptModule)}
    shadows = {module: _noting(outline, name, module.forward, running, counts) for module, name in modules.items()}
    with torch.no_grad(), shadowed_forwards(shadows), _Functions(outline, running):
        model(*args, **kwargs)
    return outline


def _shapes(value: Any) -> Shapes:
    """The shape of each tensor."""
    with torch._C.DisableTorchFunction():
        return [tuple(tensor.shape) for tensor in tensors_of(value)]


def _noting(outline: Outline, name: str, forward: Callable, running: list[CallKey], counts: dict[str, int]) -> Callable:
    """A forward that notes what it gives."""

    def forward_and_note(*args: Any, **kwargs: Any) -> Any:
        key = (name, counts.get(name, 0))
        counts[name] = key[1] + 1
        running.append(key)
        try:
            output = forward(*args, **kwargs)
        finally:
            running.pop()
        outline.calls[key] = (_shapes(output), numbers_of(output))
        return output

    return forward_and_note


class _Functions(TorchFunctionMode):
    """Counts each function of torch as the forward calls it."""

    def __init__(self, outline: Outline, running: list[CallKey]) -> None:
        self.outline, self.running = outline, running
        self.counts: dict[tuple[CallKey, str], int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.running:
            name = function_name(func)
            at = (self.running[-1], name)
            ordinal = self.counts[at] = self.counts.get(at, -1) + 1
            if isinstance(result, (Tensor, tuple, list)):
                self.outline.functions[*at[0], name, ordinal] = _shapes(result)
        return result
