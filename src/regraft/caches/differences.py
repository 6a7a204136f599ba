"""How far values that are computed again may be from those before: in another batch, after storing, by themselves."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from regraft.tensors.padding import Shapes
from regraft.tensors.trees import Inputs, map_tree, tensors_of

# How far a value computed again may be from the stored one, relative to itself or to FEW of its row's typical values,
# whichever is more. Another batch size moved float32 features by 1e-5 of the leaf's largest value (CACHING.md), which
# is a few typical ones; TF32 and bfloat16 move them by more.
TOLERANCE = 1e-4
COMPUTE_TOLERANCE = {"float32": 0.0, "bfloat16": 3e-2, "float16": 5e-3}
DEVICE_TOLERANCE = 1e-3  # of a GPU, whose convolutions choose their algorithm by the batch
FEW = 4
# What storing in a lower precision moves a value by, relative to itself: half a step of its significand. int8 moves it
# by half a step of its channel or row.
ROUNDING = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11, "int8": 0.0}
SMALLEST_HALF = 6e-8  # float16 has no smaller step


def tolerance_of(compute: str, device: str) -> float:
    """How far a value that is computed again may be from the one before, beside the rounding of its storage."""
    return TOLERANCE + COMPUTE_TOLERANCE[compute] + (0.0 if device == "cpu" else DEVICE_TOLERANCE)


def allowed_differences(fresh: Tensor, tolerance: float, precision: str, steps: Tensor | None) -> Tensor:
    """How far each stored value may be from the one computed now, of the same shape.

    Relative to the value itself and to its own row: one large value, in this row or another, hides nothing.

    steps  of int8, to be broadcast; None for other precisions
    """
    if not fresh.is_floating_point():
        return torch.zeros_like(fresh, dtype=torch.float64)
    sizes = fresh.double().abs().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    typical = torch.stack([_typical(row) for row in sizes])
    typical = typical.clamp(min=1e-3 * float(typical.max()))  # a row of zeros is no more exact than the others
    shape = [-1] + [1] * (fresh.ndim - 1)
    allowed = tolerance * torch.maximum(sizes, FEW * typical.view(shape)) + 1e-12
    allowed += ROUNDING[precision] * sizes + (SMALLEST_HALF if precision == "float16" else 0.0)
    if steps is None:
        return allowed
    middle = [1] * (fresh.ndim - steps.ndim)  # of tokens: (rows, tokens, channels)
    return allowed + 0.51 * steps.double().view(len(steps), *middle, *steps.shape[1:])  # half, and its own rounding


def differences(leaf: str, stored: Tensor, fresh: Tensor, allowed: Tensor, examples: Tensor) -> list[str]:
    """A sentence for each row with a value that is farther away than allowed."""
    common = tuple(slice(min(sizes)) for sizes in zip(stored.shape, fresh.shape, strict=True))  # padded differently
    problems = []
    for example, then, now, limit in zip(
        examples.tolist(), stored[common], fresh[common], allowed[common], strict=True
    ):
        apart = (then.double() - now.double()).abs()
        apart = torch.where(_same_gaps(then, now), 0.0, apart).nan_to_num(nan=torch.inf)
        excess = apart - limit
        if excess.numel() and excess.max() > 0:
            worst = excess.argmax()
            problems.append(
                f"  example {example}, {leaf}: stored and computed again differ by {apart.flatten()[worst]:.3g}, "
                f"allowed {limit.flatten()[worst]:.3g}"
            )
    return problems


def _typical(sizes: Tensor) -> Tensor:
    """The mean of a row's absolute values that are not zero, of which few very large ones count as tenfold."""
    nonzero = sizes[sizes > 0]
    return nonzero.clamp(max=10 * nonzero.median()).mean() if len(nonzero) else sizes.new_zeros(())


def filling_problem(
    run: Callable[[Inputs], object], inputs: Inputs, outputs: object, shapes: Sequence[Shapes], tolerance: float
) -> str:
    """What differs when the shortest example of a filled-up batch is computed alone; "" when nothing does.

    inputs   of a batch, the shorter examples filled up with zeros
    outputs  what `run` gave for them; only tensors with a row for each example are compared
    shapes   of each example's own tensors
    """
    index = min(range(len(shapes)), key=lambda row: sum(map(_elements, shapes[row])))
    if shapes[index] == tuple(tuple(tensor.shape[1:]) for tensor in tensors_of(inputs)):
        return ""
    own = iter(shapes[index])
    alone: Inputs = map_tree(lambda tensor: tensor[index : index + 1][(slice(None), *map(slice, next(own)))], inputs)
    for name, filled, single in zip(_names(outputs), tensors_of(outputs), tensors_of(run(alone)), strict=True):
        if not filled.ndim or len(filled) != len(shapes) or len(single) != 1:
            continue
        row, single = filled[index : index + 1].cpu(), single.cpu()
        allowed = allowed_differences(single, tolerance, "float32", None)
        if problems := differences(name, row, single, allowed, torch.tensor([index])):
            return f"{name}, {problems[0].partition(': ')[2]}".replace(
                "stored and computed again", "in the batch and alone"
            )
    return ""


def _names(outputs: object) -> list[str]:
    """A name for each tensor of the outputs: its key, or its number."""
    if isinstance(outputs, Mapping) and all(isinstance(value, Tensor) for value in outputs.values()):
        return list(map(str, outputs))
    return [f"output {number}" for number in range(len(tensors_of(outputs)))]


def _elements(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _same_gaps(then: Tensor, now: Tensor) -> Tensor:
    """Where both are the same gap: no number, or the same infinity."""
    return (then.isnan() & now.isnan()) | (then.isinf() & (then == now))
