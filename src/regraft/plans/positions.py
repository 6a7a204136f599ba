"""Which axes of a table of positions are the grid, and how large it is: told by both shapes, or by the user."""

from math import isqrt, prod

from regraft.errors import PlanError
from regraft.operations.operation import Shape
from regraft.operations.resizing import ResizePositions

Grids = tuple[Shape, Shape]  # as stored, afterwards
_MOST_TOKENS = 2  # class and distillation; what else stands beside a grid (BEiT's biases, say) is no token before it


def resized_grid(got: Shape, target: Shape, *, grids: Grids | None, antialias: bool) -> ResizePositions | None:
    """The operation for a table of image positions, None when the shapes are the same.

    The table is (positions, d), (1, positions, d) with class tokens first, (h, w, d), (1, h, w, d) or (1, d, h, w).

    grids   (h, w) before and after, for a flattened grid that is no square

    Raises PlanError when the shapes do not tell which grid became which; none is guessed.
    """
    if got == target and (grids is None or grids[0] == grids[1]):
        return None
    if len(got) != len(target) or len(got) not in (2, 3, 4):
        raise PlanError(f"A table of positions has 2 to 4 axes and keeps them; {got} cannot become {target}.")
    if len(got) == 2 or (len(got) == 3 and got[0] == target[0] == 1):
        return _flattened(got, target, grids, antialias)
    axis = _grid_axis(got, target)
    grid, to = got[axis : axis + 2], target[axis : axis + 2]
    if grids not in (None, (grid, to)):
        raise PlanError(f"The table's own axes tell the grid: {_by(grid)}, and {_by(to)} in the model.")
    return ResizePositions(axis, grid, to, is_flat=False, antialias=antialias)


def resized_steps(got: Shape, target: Shape) -> ResizePositions | None:
    """The operation for a table of text positions, (n, d) or (1, n, d); None when the shapes are the same.

    Raises PlanError when more than the number of positions differs.
    """
    axis = len(got) - 2
    same_rest = len(got) in (2, 3) and (*got[:axis], got[-1]) == (*target[:axis], target[-1])
    if len(got) != len(target) or not same_rest:
        raise PlanError(f"Only the number of positions can change, in (n, d) or (1, n, d); {got} cannot be {target}.")
    return None if got == target else ResizePositions(axis, (got[axis],), (target[axis],))


def _grid_axis(got: Shape, target: Shape) -> int:
    """The first of the two axes of a grid that is not flattened.

    Where only the axis in the middle differs both readings are the same: the other axis of the grid keeps its size.
    """
    for axis in range(len(got) - 2, -1, -1):
        others = range(len(got))[:axis], range(len(got))[axis + 2 :]
        if all(got[other] == target[other] for side in others for other in side):
            return axis
    raise PlanError(f"Only the grid of a table of positions can change, not its width; {got} cannot become {target}.")


def _flattened(got: Shape, target: Shape, grids: Grids | None, antialias: bool) -> ResizePositions:
    axis = len(got) - 2
    if got[-1] != target[-1]:
        raise PlanError(f"Only the number of positions can change, not their width: {got[-1]} and {target[-1]} differ.")
    before, after = got[axis], target[axis]
    if grids is not None:
        tokens = before - prod(grids[0])
        if tokens not in range(_MOST_TOKENS + 1) or after - prod(grids[1]) != tokens:
            raise PlanError(
                f"{before} positions are not {_by(grids[0])}, or {after} are not {_by(grids[1])}, behind the same "
                f"0 to {_MOST_TOKENS} class tokens."
            )
        return ResizePositions(axis, *grids, kept=tokens, antialias=antialias)
    # Squares lie at least 3 apart, so that no more than one number of tokens fits.
    for tokens in range(_MOST_TOKENS + 1):
        sides = [isqrt(count - tokens) for count in (before, after) if _is_square(count - tokens)]
        if len(sides) == 2:
            return ResizePositions(axis, (sides[0],) * 2, (sides[1],) * 2, kept=tokens, antialias=antialias)
    raise PlanError(
        f"{before} and {after} positions are not both square grids behind the same 0 to {_MOST_TOKENS} class tokens: "
        'say "bicubic HxW to HxW" (image positions), or "linear" (text positions).'
    )


def _is_square(count: int) -> bool:
    return count > 0 and isqrt(count) ** 2 == count


def _by(grid: Shape) -> str:
    return "×".join(map(str, grid))
