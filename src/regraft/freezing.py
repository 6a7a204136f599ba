"""Freeze layers for good: no gradients, no moving statistics, no dropout, whoever calls `model.train()` later."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from regraft.cuts.frozen import all_but, freeze_chosen, is_frozen, names_of, unfreeze_chosen
from regraft.errors import FreezeError, PatternError
from regraft.foundation.patterns import Patterns, choose, parents
from regraft.foundation.wording import near_names

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
        chosen = set(choose(names_of(model), layers))
    elif trainable is not None:
        chosen = all_but(model, trainable)
    else:
        chosen = _up_to(model, str(upto))
    freeze_chosen(model, chosen)
    return frozen_names(model)


def unfreeze(model: nn.Module, layers: Patterns) -> list[str]:
    """Make the chosen layers or parameters trainable again; gives the names of the modules that are still frozen.

    The layers take the mode (training or evaluation) of the model. Raises PatternError when a pattern matches nothing.
    """
    unfreeze_chosen(model, set(choose(names_of(model), layers)))
    return frozen_names(model)


def frozen_names(model: nn.Module) -> list[str]:
    """The names of all frozen modules, in the order of registration; the model itself is called ""."""
    return [name for name, module in model.named_modules() if is_frozen(module)]


def parameter_groups(model: nn.Module, groups: Mapping[str, Mapping[str, object]]) -> list[dict[str, Any]]:
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
        if trainable.keys().isdisjoint(names):
            raise FreezeError(
                f"All parameters that the pattern {pattern!r} matches are frozen: {', '.join(names[:5])}."
            )
        taken = [left.pop(name) for name in names if name in left]
        if taken:
            result.append({"params": taken, **options})
    return [*result, {"params": list(left.values())}] if left else result


def _up_to(model: nn.Module, upto: str) -> set[str]:
    """The layer, all below it and all that was registered before it."""
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if upto not in modules:
        raise PatternError(f"No layer is named {upto!r}; upto takes the name of a layer. {near_names(upto, modules)}")
    inside = [name for name in modules if upto in parents(name)]
    before = set(modules[: modules.index(inside[-1]) + 1]) - set(parents(upto)[1:])
    # The parameters of the layer's parents (a class token, a position table) come before their children.
    owners = before | set(parents(upto)) | {""}
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return before.union(name for name in parameters if name.rpartition(".")[0] in owners)
