"""The documented ways to make an array fit that does not: other input channels, other sizes, another order."""

import re
from collections.abc import Callable, Mapping, Sequence

from regraft.errors import PlanError
from regraft.operations.changes import RepeatInputs, SumInputs
from regraft.operations.joins import Fill, KeepRest
from regraft.operations.moves import Flip, PermuteFlat, Take, Transpose
from regraft.operations.operation import Operation, Shape
from regraft.patterns import choose
from regraft.plans.positions import resized_grid, resized_steps

Way = Callable[[re.Match[str], Shape, Shape], tuple[Operation, ...] | None]


def _sum(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return (SumInputs(),)


def _repeat(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return (RepeatInputs(target[1]),) if len(target) > 1 else ()


def _flip(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return (Flip((1,)),)


def _swap(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    axes = (*range(len(got) - 2), len(got) - 1, len(got) - 2)
    return (Transpose(axes, ("out", "in", "h", "w") if len(got) == 4 else ()),)


def _transposed(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return (Transpose((1, 0), ("in", "out")),) if len(got) == 2 else ()


def _rows(match: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return (Take(0, int(match["start"]), int(match["stop"])),)


def _first_rows(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...] | None:
    return None if got == target else (KeepRest(target[0]),)


def _flatten(match: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    sizes = (int(match["h"]), int(match["w"]), int(match["c"]))
    order = tuple(int(axis) for axis in match["order"].split(",")) if match["order"] else (2, 0, 1)
    return (PermuteFlat(1, sizes, order),)


def _bicubic(match: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...] | None:
    height, width, new_height, new_width = (int(match[size] or 0) for size in ("h", "w", "to_h", "to_w"))
    grids = ((height, width), (new_height, new_width)) if height else None
    resized = resized_grid(got, target, grids=grids, antialias=not match["plain"])
    return None if resized is None else (resized,)


def _linear(_: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...] | None:
    resized = resized_steps(got, target)
    return None if resized is None else (resized,)


def _constant(match: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return (Fill(1.0 if match[0] == "ones" else 0.0, target),)


def _as_stored(match: re.Match[str], got: Shape, target: Shape) -> tuple[Operation, ...]:
    return ()


# What the user writes as a pattern, the same for people, the least rank of an array it is for, how it is done.
WAYS: tuple[tuple[str, str, int, Way], ...] = (
    ("sum", "sum: a convolution's input channels summed to one (3 → 1, grey images)", 3, _sum),
    ("repeat", "repeat: input channels repeated in turn and scaled to the same sum (3 → n)", 3, _repeat),
    ("flip", "flip: input channels in the opposite order (BGR ↔ RGB)", 3, _flip),
    ("swap height and width", "swap height and width: a network trained on transposed images", 4, _swap),
    (r"rows (?P<start>\d+):(?P<stop>\d+)", "rows 1:1001: only these outputs", 1, _rows),
    ("first rows", "first rows: for more classes or tokens than the source has, which stay fresh", 1, _first_rows),
    (
        r"flatten (?P<h>\d+)x(?P<w>\d+)x(?P<c>\d+)(?: order (?P<order>[012],[012],[012]))?",
        "flatten 7x7x512: a dense layer behind a flattened (h, w, c) map takes (c, h, w); order 1,2,0: other axes",
        2,
        _flatten,
    ),
    (
        r"bicubic(?P<plain> without antialias)?(?: (?P<h>\d+)x(?P<w>\d+) to (?P<to_h>\d+)x(?P<to_w>\d+))?",
        "bicubic: a table of image positions resized, class tokens kept; bicubic 7x9 to 14x18: not from squares",
        2,
        _bicubic,
    ),
    ("linear", "linear: a table of text positions resized", 2, _linear),
    ("transposed", "transposed: a dense kernel stored as (in, out)", 2, _transposed),
    ("fold bias of .+", "fold bias of conv1/bias: of a batch-norm, whose mean takes in that bias", 1, _as_stored),
    ("zeros|ones", "zeros, ones: no source, one value everywhere", 0, _constant),
    ("as stored", "as stored: the axes of this array have the same order in both frameworks", 0, _as_stored),
)


def chosen_ways(adapt: Mapping[str, str] | None, targets: Sequence[str]) -> dict[str, str]:
    """Target name → the way that the user chose for it; a later pattern wins over an earlier one.

    Raises PatternError when a pattern chooses no target, PlanError when there is no such way.
    """
    ways: dict[str, str] = {}
    for pattern, way in (adapt or {}).items():
        find_way(way)
        ways.update(dict.fromkeys(choose(targets, pattern, what="array of the model"), way))
    return ways


def find_way(way: str) -> tuple[re.Match[str], int, Way]:
    """What was written, the least rank it is for, and the doing. Raises PlanError that lists the ways."""
    for pattern, _, rank, function in WAYS:
        match = re.fullmatch(pattern, way)
        if match:
            return match, rank, function
    listed = "\n".join(f"  {told}" for _, told, _, _ in WAYS)
    raise PlanError(f"There is no way {way!r} to adapt an array. Ways:\n{listed}")


def adapting_operations(way: str, got: Shape, target: Shape) -> tuple[Operation, ...] | None:
    """What the way does to an array that came out as `got`; None when there is nothing to do.

    Nothing is done to an array of a lower rank than the way is for, and to a table that has its size already.
    Raises PlanError when the way cannot make this shape of that one.
    """
    match, rank, function = find_way(way)
    return None if len(target) < rank else function(match, got, target)
