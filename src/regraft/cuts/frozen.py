"""The mark of a frozen module: it stays in evaluation mode, whoever calls `model.train()` later."""

from functools import partial
from typing import Any

from torch import nn


def stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """What `module.train` does while the module is frozen: evaluation mode, for it and all below it."""
    type(module).train(module, False)
    return module


def mark_frozen(module: nn.Module) -> None:
    """Put the module into evaluation mode for good.

    The instance's own attribute `train` hides the class's method, so the class stays what it is. It is a `partial` of
    a plain function: it survives deepcopy and pickle, and always belongs to the copy.
    """
    module.__dict__["train"] = partial(stay_in_eval, module)
    module.train()


def unmark_frozen(module: nn.Module) -> None:
    """Give the module back its class's `train`; its mode stays until the next `train()` or `eval()`."""
    module.__dict__.pop("train", None)


def is_frozen(module: nn.Module) -> bool:
    """Whether `freeze` has frozen this module."""
    mark: Any = module.__dict__.get("train")
    return isinstance(mark, partial) and mark.func is stay_in_eval
