"""Freeze layers for good: no gradients, no moving statistics, no dropout, whoever calls `model.train()` later."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter

from regraft.cuts.frozen import is_frozen, mark_frozen, unmark_frozen
from regraft.errors import FreezeError, PatternError, near_names
from regraft.patterns import Patterns, choose, parents

__all__ = ["freeze", "frozen_names", "is_frozen", "parameter_groups", "unfreeze"]


def freeze(
    model: nn.Module, layers: Patterns | None = None, *, trainable: Patterns | None = None, upto: str | None = None
) -> list[str]:
    """Freeze layers of the model, in place; gives the names of all modules that are now frozen.

    layers     patterns of the layers (or single parameters) to freeze
    trainable  or: patterns of what stays trainable; all else is frozen. Layers without parameters (dropout,
               say) that are registered after the first trainable layer are left as they are
    upto       or: the name of the last layer to freeze; all registered before it are frozen too

    A layer whose parameters are all frozen is frozen as a whole, its dropout included. A parameter that is shared by
    several layers follows the names that were chosen, in all its places.

    A frozen layer gets no gradient and stays in evaluation mode: dropout and drop-path are off, BatchNorm uses its
    running statistics and does not move them. This holds after `model.train()`, deepcopy, pickle and torch.compile.

    Raises PatternError for a name or pattern that matches nothing, FreezeError for a layer that would not be
    deterministic. Nothing is changed then.
    """
    if sum(choice is not None for choice in (layers, trainable, upto)) != 1:
        raise FreezeError("freeze takes exactly one of: layers, trainable=, upto=.")
    if layers is not None:
        chosen = set(choose(_names(model), layers))
    elif trainable is not None:
        chosen = _all_but(model, trainable)
    else:
        chosen = _up_to(model, str(upto))
    modules = _modules_to_mark(model, chosen)
    _refuse_batch_statistics(modules)
    _refuse_without_weights(model, chosen)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in chosen:
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimizer would still take a step along what was left
    for module in modules.values():
        mark_frozen(module)
    return frozen_names(model)


def unfreeze(model: nn.Module, layers: Patterns) -> list[str]:
    """Make the chosen layers or parameters trainable again; gives the names of the modules that are still frozen.

    The layers take the mode (training or evaluation) of the model. Raises PatternError when a pattern matches nothing.
    """
    chosen = set(choose(_names(model), layers))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in chosen:
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
            parameter.grad = None
    # A parent of something trainable is no longer frozen as a whole; its other children are.
    reopened = {parent for name in chosen for parent in [*parents(name), ""]}
    for name, module in model.named_modules(remove_duplicate=False):
        if name in reopened:
            unmark_frozen(module)
    for name, module in model.named_modules(remove_duplicate=False):
        if name in reopened and not is_frozen(module):
            module.training = model.training
    return frozen_names(model)


def frozen_names(model: nn.Module) -> list[str]:
    """The names of all frozen modules, in the order of registration; the model itself is called ""."""
    return [name for name, module in model.named_modules() if is_frozen(module)]


def parameter_groups(model: nn.Module, groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer: what each pattern's trainable parameters get.

    groups   pattern → options of the optimizer, {"backbone": {"lr": 1e-5, "weight_decay": 0}}; the first pattern that
             matches a parameter wins, and the parameters that none matches come last, with the optimizer's defaults

    Raises PatternError when a pattern matches nothing, FreezeError when one of them finds only frozen parameters.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    every = [name for name, _ in model.named_parameters()]
    left, result = dict(trainable), []
    for pattern, options in groups.items():
        names = choose(every, pattern, what="parameter")
        if not any(name in trainable for name in names):
            raise FreezeError(
                f"All parameters that the pattern {pattern!r} matches are frozen: {', '.join(names[:5])}."
            )
        taken = [left.pop(name) for name in names if name in left]
        if taken:
            result.append({"params": taken, **options})
    return [*result, {"params": list(left.values())}] if left else result


def _names(model: nn.Module) -> list[str]:
    """Every module and parameter, in the order of registration."""
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    return [*modules, *(name for name, _ in model.named_parameters(remove_duplicate=False))]


def _all_but(model: nn.Module, trainable: Patterns) -> set[str]:
    """All names but the trainable ones, their parents, and the parameter-free layers that come after them."""
    kept = set(choose(_names(model), trainable))
    kept |= {parent for name in kept for parent in parents(name)}
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    first = min((index for index, name in enumerate(modules) if name in kept), default=len(modules))
    owners = {parent for name, _ in model.named_parameters(remove_duplicate=False) for parent in parents(name)}
    kept |= {name for name in modules[first:] if name not in owners}
    places = dict(model.named_parameters(remove_duplicate=False))
    shared = {id(places[name]) for name in kept if name in places}
    kept |= {parent for name, p in places.items() if id(p) in shared for parent in parents(name)}
    return {name for name in _names(model) if name not in kept}


def _up_to(model: nn.Module, upto: str) -> set[str]:
    """The layer, all below it and all that was registered before it."""
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if upto not in modules:
        raise PatternError(f"No layer is named {upto!r}; upto takes the name of a layer. {near_names(upto, modules)}")
    inside = [name for name in modules if upto in parents(name)]
    before = set(modules[: modules.index(inside[-1]) + 1]) - set(parents(upto)[1:])
    # The parameters of the layer's parents (a class token, a position table) come before their children.
    owners = before | set(parents(upto)) | {""}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return before | {name for name in parameters if name.rpartition(".")[0] in owners}


def _modules_to_mark(model: nn.Module, chosen: set[str]) -> dict[str, nn.Module]:
    """The chosen modules, all below them, and every module whose parameters are all frozen by this choice."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    frozen = {id(parameters[name]) for name in chosen if name in parameters}
    modules = {}
    for name, module in model.named_modules(remove_duplicate=False):
        own = list(module.parameters())
        is_whole = any(id(p) in frozen for p in own) and all(id(p) in frozen or not p.requires_grad for p in own)
        if name in chosen or is_whole or any(parent in modules for parent in ["", *parents(name)]):
            modules[name] = module
    return modules


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
