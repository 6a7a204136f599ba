"""Optimizers by name: torch's own."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn, optim

from regraft.errors import TrainError
from regraft.foundation.wording import counted
from regraft.freezing import parameter_groups

LearningRate = float | Mapping[str, float] | None  # one, or pattern of parameters → rate; None: the default
OptimizerName = Literal["sgd", "momentum", "adam", "adamw"]
Optimizer = OptimizerName | optim.Optimizer | Callable[[Sequence[nn.Parameter]], optim.Optimizer]

# name -> maker and usual learning rate (PyTorch's own default for Adam, the book's for gradient descent)
OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], float]] = {
    "sgd": (optim.SGD, 1e-2),
    "momentum": (partial(optim.SGD, momentum=0.9), 1e-2),
    "adam": (optim.Adam, 1e-3),
    "adamw": (optim.AdamW, 1e-3),
}


def make_optimizer(
    optimizer: Optimizer | None, parameters: Sequence[nn.Parameter], *, lr: LearningRate, weight_decay: float | None,
    model: nn.Module | None = None,
) -> optim.Optimizer:  # fmt: skip
    """The torch optimizer of `parameters`.

    optimizer     "sgd" (plain), "momentum" (0.9), "adam", "adamw" (None), a function of the parameters, or an optimizer
    lr            None: 0.01 for "sgd" and "momentum", 0.001 for the others. A dictionary gives patterns of parameters
                  their rates, the first that matches wins; what none matches has the default
    weight_decay  None: torch's own default (0.01 for "adamw", else 0)

    model         whose parameters they are, for patterns

    `lr` and `weight_decay` go with a name. Raises TrainError for an optimizer of other parameters.
    """
    if isinstance(optimizer, str | None):
        kind, usual_lr = OPTIMIZERS[optimizer or "adamw"]
        by_pattern = isinstance(lr, Mapping)
        options: dict[str, Any] = {"lr": usual_lr if lr is None or by_pattern else lr, "fused": True}
        if weight_decay is not None:
            options["weight_decay"] = weight_decay
        # fused: one call for all parameters; torch's default on the CPU is a Python loop over them
        if isinstance(lr, Mapping):
            assert model is not None, "patterns belong to a model"
            groups = parameter_groups(model, {pattern: {"lr": rate} for pattern, rate in lr.items()})
            return kind(groups, **options)
        return kind(parameters, **options)
    made = optimizer if isinstance(optimizer, optim.Optimizer) else optimizer(parameters)
    _refuse_other_parameters(made, parameters)
    return made


def _refuse_other_parameters(optimizer: optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    updated = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    trainable = {parameter for parameter in updated if parameter.requires_grad}
    if trainable != set(parameters):
        raise TrainError(
            f"The optimizer updates {counted(len(trainable), 'trainable parameter')}. The head has {len(parameters)}, "
            "and they are not the same ones.\nPass a function that makes the optimizer from the head's parameters: "
            "optimizer=lambda parameters: SGD(parameters, lr=0.01)."
        )
