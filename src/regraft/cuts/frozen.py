"""Frozen: no gradients, and a mark by which a module stays in evaluation mode, whoever calls `model.train()` later."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import dropwhile
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter

from regraft.errors import FreezeError
from regraft.foundation.patterns import Patterns, choose, parents


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


def freeze_chosen(model: nn.Module, chosen: set[str]) -> None:
    """Freeze the modules and parameters of these names, and every module that is then frozen as a whole.

    Raises FreezeError, before anything changes, for a layer that would not be deterministic.
    """
    modules = _modules_to_mark(model, chosen)
    _refuse_batch_statistics(modules)
    _refuse_without_weights(model, chosen)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in chosen:
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimizer would still take a step along what was left
    for module in modules.values():
        mark_frozen(module)


def unfreeze_chosen(model: nn.Module, chosen: set[str]) -> None:
    """Make the modules and parameters of these names trainable; they take the model's mode."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in chosen:
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
            parameter.grad = None
    # A parent of something trainable is no longer frozen as a whole; its other children are.
    reopened = _with_parents(chosen) | {""}
    for name, module in model.named_modules(remove_duplicate=False):
        if name in reopened:
            unmark_frozen(module)
            module.training = model.training


def frozen_as_now(model: nn.Module) -> Callable[[], None]:
    """A function that makes frozen exactly what is frozen now, whatever was frozen and unfrozen in between."""
    needs_gradient = {parameter: parameter.requires_grad for parameter in model.parameters()}
    marked = [module for module in model.modules() if is_frozen(module)]

    def restore() -> None:
        for parameter, needed in needs_gradient.items():
            parameter.requires_grad_(needed)
        for module in model.modules():
            unmark_frozen(module)
        for module in marked:
            mark_frozen(module)

    return restore


@contextmanager
def all_frozen(model: nn.Module) -> Iterator[None]:
    """The whole model is frozen while in the block; afterwards exactly that is frozen which was, with its gradients.

    Raises FreezeError for a model that would not be deterministic; nothing is changed then.
    """
    restore = frozen_as_now(model)
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    modes = {module: module.training for module in model.modules()}
    try:
        freeze_chosen(model, set(names_of(model)))
        yield
    finally:
        restore()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for module, mode in modes.items():
            module.training = mode


def names_of(model: nn.Module) -> list[str]:
    """Every module and parameter, in the order of registration."""
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    return [*modules, *(name for name, _ in model.named_parameters(remove_duplicate=False))]


def all_but(model: nn.Module, trainable: Patterns) -> set[str]:
    """All names but the trainable ones, their parents, and the parameter-free layers that come after them."""
    kept = _with_parents(choose(names_of(model), trainable))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    after_first = set(dropwhile(lambda name: name not in kept, modules))
    kept |= after_first - _with_parents(parameters)
    shared = {id(parameters[name]) for name in kept & parameters.keys()}
    kept |= _with_parents(name for name, parameter in parameters.items() if id(parameter) in shared)
    return set(names_of(model)) - kept


def _with_parents(names: Iterable[str]) -> set[str]:
    return {parent for name in names for parent in parents(name)}


def _modules_to_mark(model: nn.Module, chosen: set[str]) -> dict[str, nn.Module]:
    """The chosen modules, all below them, and every module whose parameters are all frozen by this choice."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    frozen = {id(parameters[name]) for name in chosen & parameters.keys()}
    modules: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        is_below = not modules.keys().isdisjoint(["", *parents(name)])
        if name in chosen or is_below or _is_frozen_by(frozen, module):
            modules[name] = module
    return modules


def _is_frozen_by(frozen: set[int], module: nn.Module) -> bool:
    """Whether some of the module's parameters are among these, and all others are frozen already."""
    trainable = {id(parameter): parameter.requires_grad for parameter in module.parameters()}
    return not frozen.isdisjoint(trainable) and not any(trainable[key] for key in trainable.keys() - frozen)


def _refuse_batch_statistics(modules: Mapping[str, nn.Module]) -> None:
    """A normalisation without running statistics mixes the examples of a batch, in evaluation mode too."""
    unfit = [name for name, module in modules.items() if isinstance(module, _BatchNorm) and not _has_statistics(module)]
    if unfit:
        raise FreezeError(
            f"{', '.join(unfit)}: BatchNorm without running statistics normalises by the batch, so a frozen one would "
            "not be deterministic.\nBuild the layer with track_running_stats=True, or leave it trainable."
        )


def _refuse_without_weights(model: nn.Module, chosen: set[str]) -> None:
    """A lazy layer that has seen no input yet has nothing to freeze."""
    lazy = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name in chosen and isinstance(parameter, UninitializedParameter)
    ]
    if lazy:
        raise FreezeError(
            f"{', '.join(lazy)}: no values yet; a lazy layer gets them from its first input.\n"
            "Run the model on one batch, then freeze."
        )


def _has_statistics(module: _BatchNorm) -> bool:
    """Whether the normalisation can do without the batch's own statistics."""
    statistics: tuple[Tensor | None, ...] = (module.running_mean, module.running_var)
    return all(tensor is not None for tensor in statistics)
