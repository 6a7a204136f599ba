"""Prove that trunk and head together are the model: outputs, gradients and buffers equal in every bit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from regraft.cuts.batches import Arguments
from regraft.cuts.frozen import is_frozen
from regraft.cuts.placeholders import Stub
from regraft.cuts.record import Record, slots_of
from regraft.cuts.replay import Replay
from regraft.errors import FreezeError, RegraftError, SplitError
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import copied, dense, opaque_objects, same_values, tensors_of

# Rows computed in another batch are summed in another order: 1e-6 for float32 (measured 8.6e-6 for batch 1 in the place
# of 32), more for a deep network's largest values. What mixes examples differs in the first digits.
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}


class DifferenceError(SplitError):
    """Trunk and head give something else than the model."""


@dataclass(frozen=True)
class Outcome:
    """What a step gives: outputs, gradients and buffers by name, and the `opaque_objects` of the outputs."""

    tensors: dict[str, Tensor]
    sealed: list[tuple[type, list[Tensor]]]


def model_step(model: nn.Module, arguments: Arguments, *, is_training: bool) -> Outcome:
    """Outputs, gradients and buffers of a step of the unsplit model, by name. Nothing changes in the model.

    Raises SplitError when the model cannot make one.
    """
    args, kwargs = copied(arguments)
    with undisturbed(model, is_training=is_training):
        try:
            return _step(model, lambda: model(*args, **kwargs))
        except Exception as error:  # the model's own forward and backward may say anything
            raise SplitError(f"The model itself cannot make a training step on the example: {error}") from error


def trunk_features(replay: Replay, arguments: Arguments, *, is_training: bool) -> dict[str, Tensor]:
    """The features of these arguments. Nothing changes in the model."""
    with undisturbed(replay.model, is_training=is_training):
        return replay.trunk(*copied(arguments))


def prove(
    replay: Replay, features: Mapping[str, Tensor], expected: Outcome, *, is_training: bool,
    given: Callable[[Any], Any] = lambda arguments: arguments,
) -> None:  # fmt: skip
    """Run a step of the head, on the model's arguments as `given` makes them, and compare it with a `model_step`.

    Raises DifferenceError when anything differs by a bit.
    """
    with undisturbed(replay.model, is_training=is_training):
        try:
            got = _step(replay.model, lambda: replay.head(features, given))
        except RegraftError:
            raise
        except Exception as error:  # the model's own forward may say anything to a tensor of a wrong shape
            raise DifferenceError(f"The head does not run where the model does: {error}") from error
    wanted, there = expected.tensors, got.tensors
    different = [name for name in wanted if name not in there or not same_values(wanted[name], there[name])]
    different += [name for name in there if name not in wanted]
    if different:
        raise DifferenceError(
            f"The head does not give what the model gives: {', '.join(different[:5])} differ on the example.\n"
            'Cut after a layer that you name, at="…", or train this model without cached features.'
        )
    for (kind, inside), (_, others) in zip_longest(expected.sealed, got.sealed, fillvalue=(object, [])):
        if not _all_equal(inside, others):
            replay.unfilled.add(kind)


def mixing_leaves(
    features: Mapping[str, Tensor], others: Mapping[str, Tensor], again: Mapping[str, Tensor], order: Tensor
) -> list[str]:
    """The leaves whose rows changed with the rest of the batch: they mix the examples.

    others  the features of the same examples in another batch, in another order: equal but for rounding
    again   those of that batch with another new row: equal in every bit, since nothing rounds otherwise in its place
    order   for each row of both the row that it is in `features`; -1 for one that is not
    """
    known = (order >= 0).nonzero()[:, 0]
    mixing = []
    for name, rows in features.items():
        at = known.to(rows.device)
        same = same_values(others[name][at], again[name][at]) and _same_rows(
            rows[order.to(rows.device)[at]], others[name][at]
        )
        mixing += [] if same else [name]
    return mixing


def _same_rows(rows: Tensor, others: Tensor) -> bool:
    """Equal but for rounding, by the size of the largest value; exactly equal when they are whole numbers."""
    if rows.shape != others.shape:
        return False
    if not (rows.is_floating_point() or rows.is_complex()):
        return torch.equal(rows, others)
    finite = torch.isfinite(rows)
    if not torch.equal(finite, torch.isfinite(others)):
        return False
    rows, others = rows[finite], others[finite]
    scale = float(rows.abs().max()) if rows.numel() else 0.0
    return bool(((rows - others).abs() <= ROUNDING.get(rows.dtype, 1e-3) * scale).all())


def refuse_random(model: nn.Module, record: Record, live: list[bool]) -> None:
    """A frozen layer whose output depends on random numbers cannot be computed once."""
    modules = dict(model.named_modules())
    for index, _ in record.draws:
        name = record.calls[index].name
        if is_frozen(modules[name]):
            raise FreezeError(
                f"{name} is frozen, but its forward draws random numbers (Python's or NumPy's) in evaluation mode: its "
                "features would be one draw for all epochs.\nUnfreeze it, or switch its randomness off."
            )
    for operation in record.operations:
        if not operation.is_random:
            continue
        call = record.calls[operation.call]
        outputs = [slot.value for slot in slots_of(call.output)]
        if is_frozen(modules[call.name]) and any(live[value] for value in outputs):
            raise FreezeError(
                f"{call.name} is frozen, but its forward draws random numbers in evaluation mode ({operation.name}): "
                "its features would be one draw for all epochs.\nUnfreeze it, or switch its randomness off."
            )


def _step(model: nn.Module, forward: Callable[[], Any]) -> Outcome:
    """The outcome of one training step."""
    with torch.enable_grad():
        whole = forward()
        outputs = [dense(tensor) for tensor in tensors_of(whole)]
        result = {f"output {index}": tensor.detach() for index, tensor in enumerate(outputs)}
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        differentiable = [tensor for tensor in outputs if tensor.requires_grad]
        if differentiable and parameters:
            loss = sum(_weighted(tensor) for tensor in differentiable)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)  # type: ignore[arg-type]
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    result[f"gradient of {name}"] = dense(gradient)
    buffers = {f"buffer {name}": dense(buffer.clone()) for name, buffer in model.named_buffers()}
    return Outcome(result | buffers, opaque_objects(whole))


def _weighted(tensor: Tensor) -> Tensor:
    """A scalar in which every element counts differently, so that no error cancels another."""
    weights = torch.linspace(0.5, 1.5, tensor.numel(), dtype=torch.float32, device=tensor.device)
    total = (tensor.reshape(-1) * weights.to(tensor.dtype)).sum()
    return total.real if total.is_complex() else total


def _all_equal(expected: list[Tensor], got: list[Tensor]) -> bool:
    are_real = len(expected) == len(got) and not any(isinstance(tensor, Stub) for tensor in got)
    return are_real and all(map(same_values, expected, got))
