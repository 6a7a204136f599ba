"""The documented methods to make an array fit that does not: other input channels, other sizes, another order."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod

from regraft.errors import PlanError
from regraft.foundation.patterns import choose
from regraft.operations.changes import AddTo, AlongTime, Pad, RepeatInputs, SumInputs
from regraft.operations.joins import Fill, KeepRest
from regraft.operations.moves import Flip, PermuteFlat, Take, Transpose
from regraft.operations.operation import Operation, Shape
from regraft.operations.resizing import ResizePositions
from regraft.operations.running import shape_after

Operations = tuple[Operation, ...] | None
LORA = r"lora (?P<scale>\d+(?:\.\d+)?(?:e-?\d+)?)"
Maker = Callable[[re.Match[str], Shape, Shape], Operations]


@dataclass(frozen=True)
class Adaptation:
    """One method to adapt an array.

    pattern   what the user writes
    meaning   the same for people
    rank      the least number of axes of an array that it is for
    make      (match, shape as it came, the target's shape) → operations; None when there is nothing to do
    """

    pattern: str
    meaning: str
    rank: int
    make: Maker


def _repeat(_: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (RepeatInputs(target[1]),) if len(target) > 1 else ()


def _channels(_: re.Match[str], got: Shape, target: Shape) -> Operations:
    if len(got) < 2 or got[1] > target[1]:
        raise PlanError(f"The source has more input channels than the model: {got} and {target}.")
    return (Pad(1, 0, target[1] - got[1]),)


def _time(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (AlongTime(target[2], centre=bool(match["centre"])),) if len(got) < len(target) else None


def _swap(_: re.Match[str], got: Shape, target: Shape) -> Operations:
    axes = (*range(len(got) - 2), len(got) - 1, len(got) - 2)
    return (Transpose(axes, ("out", "in", "h", "w") if len(got) == 4 else ()),)


def _transposed(_: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (Transpose((1, 0), ("in", "out")),) if len(got) == 2 else ()


def _axes(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (Transpose(tuple(map(int, match["axes"].split(",")))),)


def _rotary(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    """Within each head, rows 0 1 | 2 3 | … become 0 2 … | 1 3 …"""
    return (PermuteFlat(0, (int(match["heads"]), _half_head(match, got), 2), (0, 2, 1)),)


def _interleaved(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (PermuteFlat(0, (int(match["heads"]), 2, _half_head(match, got)), (0, 2, 1)),)


def _half_head(match: re.Match[str], got: Shape) -> int:
    heads = int(match["heads"])
    if not heads or got[0] % (2 * heads):
        raise PlanError(f"{got[0]} rows are not {heads} heads of an even size.")
    return got[0] // (2 * heads)


def _added(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (AddTo(0, 0, got[0], float(match["number"]) * (-1 if match["sign"] == "minus" else 1)),)


def way_of_order(order: Sequence[int]) -> str:
    """The words that put the axes in this order.

    >>> way_of_order((1, 0)), way_of_order((3, 2, 0, 1))
    ('transposed', 'axes 3,2,0,1')
    """
    return "transposed" if tuple(order) == (1, 0) else f"axes {','.join(map(str, order))}"


def _rows(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (Take(0, int(match["start"]), int(match["stop"])),)


def _part(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    """Rows of one part of several that are stored as one array; with heads, each head holds all parts in turn."""
    number, count, heads = int(match["number"]), int(match["count"]), int(match["heads"] or 1)
    if not 1 <= number <= count or not heads or got[0] % (count * heads):
        raise PlanError(f"{got[0]} rows have no part {number} of {count}" + f" in {heads} heads" * (heads > 1) + ".")
    rows = got[0] // count
    apart = (PermuteFlat(0, (heads, count, rows // heads), (1, 0, 2)),) if heads > 1 else ()
    return (*apart, Take(0, (number - 1) * rows, number * rows))


def _joined_parts(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    """Rows of several parts that are stored as one array: all of a part together, or all parts of a head together."""
    count, heads = int(match["count"]), int(match["heads"])
    if not count or not heads or got[0] % (count * heads):
        raise PlanError(f"{got[0]} rows are not {count} parts in {heads} heads.")
    sizes = (heads, count) if match["first"] == "parts" else (count, heads)
    return (PermuteFlat(0, (*sizes, got[0] // (count * heads)), (1, 0, 2)),)


def _first_rows(_: re.Match[str], got: Shape, target: Shape) -> Operations:
    return None if got == target else (KeepRest(target[0]),)


def _flatten(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    sizes = (int(match["h"]), int(match["w"]), int(match["c"]))
    order = tuple(int(axis) for axis in match["order"].split(",")) if match["order"] else (2, 0, 1)
    return (PermuteFlat(1, sizes, order),)


def _bicubic(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    height, width, new_height, new_width = (int(match[size] or 0) for size in ("h", "w", "to_h", "to_w"))
    grids = ((height, width), (new_height, new_width)) if height else None
    resized = resized_grid(got, target, grids=grids, antialias=not match["plain"])
    return None if resized is None else (resized,)


def _linear(_: re.Match[str], got: Shape, target: Shape) -> Operations:
    resized = resized_steps(got, target)
    return None if resized is None else (resized,)


def _constant(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return (Fill(1.0 if match[0] == "ones" else 0.0, target),)


def _as_stored(match: re.Match[str], got: Shape, target: Shape) -> Operations:
    return ()


ADAPTATIONS = (
    Adaptation(
        "sum", "sum: a convolution's input channels summed to one (3 → 1, grey images)", 3, lambda *_: (SumInputs(),)
    ),
    Adaptation("repeat", "repeat: input channels repeated in turn and scaled to the same sum (3 → n)", 3, _repeat),
    Adaptation(
        "first channels", "first channels: the source's input channels kept, zeros for the others", 3, _channels
    ),
    Adaptation(r"along time(?P<centre> in the centre)?", "along time: kernels of images for videos", 5, _time),
    Adaptation("flip", "flip: input channels in the opposite order (BGR ↔ RGB)", 3, lambda *_: (Flip((1,)),)),
    Adaptation("swap height and width", "swap height and width: a network trained on transposed images", 4, _swap),
    Adaptation(r"rows (?P<start>\d+):(?P<stop>\d+)", "rows 1:1001: only these outputs", 1, _rows),
    Adaptation(
        r"part (?P<number>\d+) of (?P<count>\d+)(?: in (?P<heads>\d+) heads?)?",
        "part 1 of 3: these rows of an array that joins three (qkv); part 1 of 3 in 12 heads: where each head has all",
        1,
        _part,
    ),
    Adaptation(
        r"(?P<first>parts|heads) first of (?P<count>\d+) in (?P<heads>\d+) heads?",
        "parts first of 3 in 12 heads: rows that join q, k, v head by head (GPT-NeoX) to all of q, then k, then v",
        1,
        _joined_parts,
    ),
    Adaptation(
        "first rows", "first rows: for more classes or tokens than the source has, which stay fresh", 1, _first_rows
    ),
    Adaptation(
        r"flatten (?P<h>\d+)x(?P<w>\d+)x(?P<c>\d+)(?: order (?P<order>[012],[012],[012]))?",
        "flatten 7x7x512: a dense layer behind a flattened (h, w, c) map takes (c, h, w); order 1,2,0: other axes",
        2,
        _flatten,
    ),
    Adaptation(
        r"bicubic(?P<plain> without antialias)?(?: (?P<h>\d+)x(?P<w>\d+) to (?P<to_h>\d+)x(?P<to_w>\d+))?",
        "bicubic: a table of image positions resized, class tokens kept; bicubic 7x9 to 14x18: not from squares",
        2,
        _bicubic,
    ),
    Adaptation("linear", "linear: a table of text positions resized", 2, _linear),
    Adaptation("transposed", "transposed: a dense kernel stored as (in, out)", 2, _transposed),
    Adaptation(r"axes (?P<axes>[0-4](?:,[0-4])+)", "axes 3,2,0,1: the stored axes, from 0, in this order", 2, _axes),
    Adaptation(
        r"rotary (?P<heads>\d+) heads?", "rotary 32 heads: rows of pairs (Meta, llama.cpp) to halves", 1, _rotary
    ),
    Adaptation(r"interleaved (?P<heads>\d+) heads?", "interleaved 32 heads: rows of halves to pairs", 1, _interleaved),
    Adaptation(r"(?P<sign>minus|plus) (?P<number>\d+(?:\.\d+)?)", "minus 1: a norm stored as 1 + w", 1, _added),
    Adaptation("fold bias of .+", "fold bias of conv1/bias: into the mean of a batch-norm", 1, _as_stored),
    Adaptation(LORA, "lora 2.0: the adapter beside the weight merged, W + 2.0 · B A (lora_alpha / r)", 1, _as_stored),
    Adaptation("fold norm .+", "fold norm bn1: a batch-norm of the source that the model lacks", 1, _as_stored),
    Adaptation("zeros|ones", "zeros, ones: no source, one value everywhere", 0, _constant),
    Adaptation("as stored", "as stored: the axes of this array have the same order in both frameworks", 0, _as_stored),
)


def chosen_methods(adapt: Mapping[str, str] | None, targets: Sequence[str]) -> dict[str, str]:
    """Target name → the method that the user chose for it; a later pattern wins over an earlier one.

    Raises PatternError when a pattern chooses no target, PlanError when there is no such method.
    """
    methods: dict[str, str] = {}
    for pattern, method in (adapt or {}).items():
        for words in in_turn(method):
            find_adaptation(words)
        methods.update(dict.fromkeys(choose(targets, pattern, what="array of the model"), method))
    return methods


def in_turn(methods: str) -> list[str]:
    """The methods that are applied one after the other.

    >>> in_turn("transposed then part 1 of 3")
    ['transposed', 'part 1 of 3']
    """
    return methods.split(" then ")


def find_adaptation(words: str) -> tuple[re.Match[str], Adaptation]:
    """What was written, and the method that it names. Raises PlanError that lists the methods."""
    for method in ADAPTATIONS:
        match = re.fullmatch(method.pattern, words)
        if match:
            return match, method
    listed = "\n".join(f"  {method.meaning}" for method in ADAPTATIONS)
    raise PlanError(f"There is no method {words!r} to adapt an array. Methods:\n{listed}")


def adapting_operations(methods: str, got: Shape, target: Shape) -> Operations:
    """What the methods do to an array that came out as `got`; None when there is nothing to do.

    Nothing is done to an array of a lower rank than the method is for, and to a table that has its size already.
    Raises PlanError when the method cannot make this shape of that one.
    """
    operations: Operations = None
    for words in in_turn(methods):
        match, method = find_adaptation(words)
        more = None if len(target) < method.rank else method.make(match, got, target)
        if more is not None:
            operations, got = (*(operations or ()), *more), shape_after(more, [got])
    return operations


# --- tables of positions ----------------------------------------------------------------------------------------------

Grids = tuple[Shape, Shape]  # as stored, afterwards
_MOST_TOKENS = 2  # class and distillation; what else stands beside a grid (BEiT's biases, say) is no token before it


def resized_grid(got: Shape, target: Shape, *, grids: Grids | None, antialias: bool) -> ResizePositions | None:
    """The operation for a table of image positions, None when the shapes are the same.

    The table is (positions, d), (1, positions, d) with class tokens first, (h, w, d), (1, h, w, d) or (1, d, h, w).

    grids   (h, w) before and after, for a flattened grid that is no square

    Raises PlanError when the shapes do not decide which grid became which; none is guessed.
    """
    if got == target and (grids is None or grids[0] == grids[1]):
        return None
    if len(got) != len(target) or len(got) not in (2, 3, 4):
        raise PlanError(f"A table of positions has 2 to 4 axes and keeps them; {got} cannot become {target}.")
    is_flat = len(got) == 2 or (len(got) == 3 and got[0] == target[0] == 1)
    if is_flat:
        return _flattened(got, target, grids, antialias)
    axis = _grid_axis(got, target)
    grid, to = got[axis : axis + 2], target[axis : axis + 2]
    if grids not in (None, (grid, to)):
        raise PlanError(f"The table's own axes are the grid: {_by(grid)}, and {_by(to)} in the model.")
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
        if (got[:axis], got[axis + 2 :]) == (target[:axis], target[axis + 2 :]):
            return axis
    raise PlanError(f"Only the grid of a table of positions can change, not its width; {got} cannot become {target}.")


def _flattened(got: Shape, target: Shape, grids: Grids | None, antialias: bool) -> ResizePositions:
    axis = len(got) - 2
    if got[-1] != target[-1]:
        raise PlanError(f"Only the number of positions can change, not their width: {got[-1]} and {target[-1]} differ.")
    before, after = got[axis], target[axis]
    if grids is not None:
        tokens = _tokens_beside(before, after, grids)
        return ResizePositions(axis, *grids, kept=tokens, antialias=antialias)
    # Squares lie at least 3 apart, so that no more than one number of tokens fits.
    for tokens in range(_MOST_TOKENS + 1):
        if _is_square(before - tokens) and _is_square(after - tokens):
            side, to = isqrt(before - tokens), isqrt(after - tokens)
            return ResizePositions(axis, (side, side), (to, to), kept=tokens, antialias=antialias)
    raise PlanError(
        f"{before} and {after} positions are not both square grids behind the same 0 to {_MOST_TOKENS} class tokens. "
        'Write "bicubic HxW to HxW" for image positions, "linear" for text positions.'
    )


def _tokens_beside(before: int, after: int, grids: Grids) -> int:
    tokens = before - prod(grids[0])
    if tokens not in range(_MOST_TOKENS + 1) or after - prod(grids[1]) != tokens:
        raise PlanError(
            f"{before} positions are not {_by(grids[0])}, or {after} are not {_by(grids[1])}, behind the same "
            f"0 to {_MOST_TOKENS} class tokens."
        )
    return tokens


def _is_square(count: int) -> bool:
    return count > 0 and isqrt(count) ** 2 == count


def _by(grid: Shape) -> str:
    return "×".join(map(str, grid))
