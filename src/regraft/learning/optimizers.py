"""Optimisers by name: torch's own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn, optim

from regraft.errors import TrainError
from regraft.wording import near_names

Optimizer = str | optim.Optimizer | Callable[[Sequence[nn.Parameter]], optim.Optimizer]

# name -> maker and usual learning rate (PyTorch's own default for Adam, the book's for gradient descent)
OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], float]] = {
    "sgd": (optim.SGD, 1e-2),
    "momentum": (partial(optim.SGD, momentum=0.9), 1e-2),
    "adam": (optim.Adam, 1e-3),
    "adamw": (optim.AdamW, 1e-3),
}


def make_optimizer(
    optimizer: Optimizer, parameters: Sequence[nn.Parameter], *, lr: float | None, weight_decay: float | None
) -> optim.Optimizer:
    """The torch optimiser that moves `parameters`.

    optimizer     "sgd" (plain), "momentum" (0.9), "adam", "adamw", a function of the parameters, or an optimiser
    lr            None: 0.01 for "sgd" and "momentum", 0.001 for the others
    weight_decay  None: torch's own default (0.01 for "adamw", else 0)

    Raises TrainError for an unknown name, for `lr` or `weight_decay` beside an optimiser that has its own, and for an
    optimiser of other parameters.
    """
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise TrainError(
                f"There is no optimizer {optimizer!r}. {near_names(optimizer, OPTIMIZERS)}\n"
                "Any of torch's fits as a function: optimizer=lambda parameters: RMSprop(parameters, lr=0.001)."
            )
        kind, usual_lr = OPTIMIZERS[optimizer]
        options: dict[str, Any] = {"lr": usual_lr if lr is None else lr, "fused": True}
        if weight_decay is not None:
            options["weight_decay"] = weight_decay
        # fused: one call for all parameters; torch's default on the CPU is a Python loop over them
        return kind(parameters, **options)
    if lr is not None or weight_decay is not None:
        raise TrainError("`lr` and `weight_decay` go with an optimizer's name; set them in the optimizer you give.")
    made = optimizer if isinstance(optimizer, optim.Optimizer) else optimizer(parameters)
    moved = {parameter for group in made.param_groups for parameter in group["params"] if parameter.requires_grad}
    if moved != set(parameters):
        raise TrainError(
            f"The optimizer moves {len(moved)} trainable parameters and the head has {len(parameters)}, not the same "
            "ones.\nMake it from those that training hands over: optimizer=lambda parameters: SGD(parameters, lr=0.01)."
        )
    return made
