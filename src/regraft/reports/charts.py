"""Numbers → coordinates of small charts: what the report's template draws as inline SVG.

Drawn by hand rather than by a plotting library: colours then follow the page's light or dark theme, each chart is a
few kB, the text stays text, and the same numbers give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 360, 220  # of a curve chart, in SVG units: about one pixel on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 26
STRIP_HEIGHT = 42
MOST_POINTS = 400  # a line of 360 units shows no more
MOST_DOTS = 60


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    """A marked point; `label` is shown on hover and read aloud."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve: its name, its SVG path, and its dots where they are few enough to be told apart."""

    name: str
    path: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Curves:
    """A line chart over epochs; `best` is the x of the marked epoch."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    best: float | None


@dataclass(frozen=True)
class Strip:
    """One row of a strip chart: a value from `start` to `end` (its error, or a bar from 0), and single points."""

    y: float
    start: float
    end: float
    at: float
    points: tuple[float, ...]


@dataclass(frozen=True)
class Strips:
    """A chart of one row for each variant, over one common axis."""

    rows: tuple[Strip, ...]
    x_ticks: tuple[Tick, ...]
    height: float


def steps(low: float, high: float, *, count: int = 4) -> list[float]:
    """About `count` + 1 round numbers from at most `low` to at least `high`, evenly spaced.

    >>> steps(0.13, 0.88)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        spread = 0.05 * abs(low) or 0.5
        low, high = low - spread, high + spread
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def curves(
    series: Mapping[str, Sequence[float]], *, best_epoch: int | None = None, limits: tuple[float, float] | None = None
) -> Curves:
    """A line for each series over the epochs 0, 1, …; values that are not finite leave a gap.

    limits  the values' own bounds, (0, 1) for an accuracy: the axis never goes beyond
    """
    finite = [value for values in series.values() for value in values if isfinite(value)] or [0.0]
    levels = steps(min(finite), max(finite))
    if limits is not None:
        levels = [level for level in levels if limits[0] <= level <= limits[1]]
    epochs = max(len(values) for values in series.values())
    low, high = min(levels[0], *finite), max(levels[-1], *finite)

    def x_of(epoch: float) -> float:
        share = epoch / (epochs - 1) if epochs > 1 else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y_of(value: float) -> float:
        return round(TOP + (high - value) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    whole = [epoch for epoch in steps(0, epochs - 1) if epoch == int(epoch) and epoch < epochs] if epochs > 1 else []
    near_first = 0.06 * epochs  # labels closer than this to the first one would touch it
    ticks = [0.0, *(epoch for epoch in whole if epoch > near_first)]
    lines = tuple(
        _line(name, [(x_of(epoch), y_of(value)) if isfinite(value) else None for epoch, value in enumerate(values)],
              [f"{name}, epoch {epoch}: {value:.4g}" for epoch, value in enumerate(values)])
        for name, values in series.items()
    )  # fmt: skip
    return Curves(
        lines,
        tuple(Tick(x_of(epoch), f"{epoch:,.0f}") for epoch in ticks),
        tuple(Tick(y_of(level), label) for level, label in zip(levels, labels_of(levels), strict=True)),
        x_of(best_epoch) if best_epoch is not None and 0 <= best_epoch < epochs else None,
    )


def _line(name: str, points: list[tuple[float, float] | None], labels: list[str]) -> Line:
    path, pen_up = [], True
    for index in thinned(len(points), MOST_POINTS):
        point = points[index]
        if point is not None:
            path.append(f"{'M' if pen_up else 'L'}{point[0]:g} {point[1]:g}")
        pen_up = point is None
    few = len(points) <= MOST_DOTS
    dots = tuple(Dot(*point, label) for point, label in zip(points, labels, strict=True) if few and point is not None)
    return Line(name, "".join(path), dots)


def strips(
    values: Sequence[float], errors: Sequence[float] | None = None, points: Sequence[Sequence[float]] | None = None
) -> Strips:
    """A row for each value: with its error and single points, or without `errors` as a bar from 0."""
    errors_or_none = errors or [0.0] * len(values)
    points = points or [()] * len(values)
    reach = [0.0] if errors is None else []
    for value, error, singles in zip(values, errors_or_none, points, strict=True):
        reach += [value - error, value + error, *singles]
    levels = steps(min(reach), max(reach))

    def x_of(value: float) -> float:
        return round(6 + (value - levels[0]) / (levels[-1] - levels[0]) * (WIDTH - 24), 1)

    rows = tuple(
        Strip(
            y=STRIP_HEIGHT * index,
            start=x_of(0.0) if errors is None else x_of(value - error),
            end=x_of(value) if errors is None else x_of(value + error),
            at=x_of(value),
            points=tuple(x_of(single) for single in singles),
        )
        for index, (value, error, singles) in enumerate(zip(values, errors_or_none, points, strict=True))
    )
    ticks = tuple(Tick(x_of(level), label) for level, label in zip(levels, labels_of(levels), strict=True))
    return Strips(rows, ticks, STRIP_HEIGHT * len(rows) + 22)


def heat_paths(shares: Sequence[Sequence[float]]) -> dict[str, str]:
    """SVG paths of a matrix's cells in a grid of unit squares, one path for each shade that occurs.

    shares   (n, n) from 0 to 1
    returns  "hit1" … "hit5" for the diagonal and "miss1" … "miss5" beside it → path; empty cells are not drawn

    One path for each shade keeps a matrix of 100 classes at a few kB.
    """
    paths: dict[str, list[str]] = {}
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            if share > 0:
                name = ("hit" if row == column else "miss") + str(shade(share))
                paths.setdefault(name, []).append(f"M{column} {row}h1v1h-1z")
    return {name: "".join(paths[name]) for name in sorted(paths)}


def shade(share: float) -> int:
    """0 for nothing, then 1 to 5: finer steps for small shares, which are the ones to be found."""
    return sum(share > bound for bound in (0.0, 0.03, 0.1, 0.3, 0.7))


def labels_of(levels: Sequence[float]) -> list[str]:
    """The levels as text, all with as many decimals as their step needs."""
    step = levels[1] - levels[0] if len(levels) > 1 else levels[0] or 1.0
    if abs(levels[-1]) >= 1e6 or step < 1e-6:
        return [f"{level:.2g}" for level in levels]
    decimals = next((count for count in range(7) if abs(step - round(step, count)) < 1e-9 * step), 7)
    return [f"{level:,.{decimals}f}" for level in levels]


def thinned(count: int, most: int) -> list[int]:
    """At most `most` of the places 0 … count - 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
