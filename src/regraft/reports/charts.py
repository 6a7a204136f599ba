"""Numbers → coordinates of small charts: what the report's template draws as inline SVG.

Drawn by hand rather than by a plotting library: colours then follow the page's light or dark theme, each chart is a
few kB, the text stays text, and the same numbers give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from regraft.reports.calibration import Calibration

WIDTH, HEIGHT = 360, 220  # of a curve chart, in SVG units: about one pixel on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 26
STRIP_HEIGHT = 42
MOST_POINTS = 400  # a line of 360 units shows no more
MOST_DOTS = 60
MOST_COLUMNS = 120


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
class Column:
    """A part of the chart that shows the values of one epoch while the pointer is over it."""

    x: float
    width: float
    label: str


@dataclass(frozen=True)
class Curves:
    """A line chart over epochs; `best` is the x of the marked epoch, `columns` show values on hover."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    best: float | None
    columns: tuple[Column, ...]


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


@dataclass(frozen=True)
class Scales:
    """From epochs and values to the places of a curve chart.

    epochs     how many there are; the first is drawn at the left border, the last at the right
    low, high  the values at the lower and the upper border
    """

    epochs: int
    low: float
    high: float

    def x(self, epoch: float) -> float:
        """The x of an epoch; a single epoch lies in the middle."""
        share = epoch / (self.epochs - 1) if self.epochs > 1 else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """The y of a value."""
        return round(TOP + (self.high - value) / ((self.high - self.low) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    def epoch_ticks(self) -> tuple[Tick, ...]:
        """Epoch 0 and round ones; none whose label would touch that of epoch 0."""
        rounded = steps(0, self.epochs - 1) if self.epochs > 1 else []
        near_first = 0.06 * self.epochs
        shown = [epoch for epoch in rounded if epoch == int(epoch) and near_first < epoch < self.epochs]
        return tuple(Tick(self.x(epoch), f"{epoch:,.0f}") for epoch in (0.0, *shown))

    def value_ticks(self, levels: Sequence[float]) -> tuple[Tick, ...]:
        """The levels with their labels."""
        return tuple(Tick(self.y(level), label) for level, label in zip(levels, labels_of(levels), strict=True))

    def columns(self, series: Mapping[str, Sequence[float]]) -> tuple[Column, ...]:
        """A column for each epoch, of many epochs for some of them, with the values of all series."""
        shown = thinned(self.epochs, MOST_COLUMNS)
        width = round((WIDTH - LEFT - RIGHT) / max(len(shown) - 1, 1), 2)
        return tuple(
            Column(round(self.x(epoch) - width / 2, 2), width, f"epoch {epoch}: {_values_at(epoch, series)}")
            for epoch in shown
        )

    def line(self, name: str, values: Sequence[float]) -> Line:
        """The curve of a series; its points are marked where they are few. Values that are not finite leave a gap."""
        points = {epoch: (self.x(epoch), self.y(value)) for epoch, value in enumerate(values) if isfinite(value)}
        shown = thinned(len(values), MOST_POINTS)
        dots = [Dot(*point, f"{name}, epoch {epoch}: {values[epoch]:.4g}") for epoch, point in points.items()]
        path = _path([points.get(epoch) for epoch in shown])
        return Line(name, path, tuple(dots) if len(values) <= MOST_DOTS else ())


def curves(
    series: Mapping[str, Sequence[float]], *, best_epoch: int | None = None, limits: tuple[float, float] | None = None
) -> Curves:
    """A line for each series over the epochs 0, 1, …; values that are not finite leave a gap.

    limits  the values' own bounds, (0, 1) for an accuracy: the axis never goes beyond
    """
    finite = [value for values in series.values() for value in values if isfinite(value)] or [0.0]
    levels = _within(steps(min(finite), max(finite)), limits)
    scales = Scales(max(map(len, series.values())), min(levels[0], *finite), max(levels[-1], *finite))
    return Curves(
        tuple(scales.line(name, values) for name, values in series.items()),
        scales.epoch_ticks(),
        scales.value_ticks(levels),
        scales.x(best_epoch) if best_epoch is not None and 0 <= best_epoch < scales.epochs else None,
        scales.columns(series),
    )


def _values_at(epoch: int, series: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name} {values[epoch]:.4g}" for name, values in series.items() if epoch < len(values))


def _within(levels: list[float], limits: tuple[float, float] | None) -> list[float]:
    return levels if limits is None else [level for level in levels if limits[0] <= level <= limits[1]]


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """The points joined by lines; None lifts the pen."""
    before = (None, *points)
    return "".join(
        f"{'L' if last else 'M'}{point[0]:g} {point[1]:g}" for last, point in zip(before, points, strict=False) if point
    )


def strips(
    values: Sequence[float], errors: Sequence[float] | None = None, points: Sequence[Sequence[float]] | None = None
) -> Strips:
    """A row for each value: with its error and single points, or without `errors` as a bar from 0."""
    spans = [(0.0, value) for value in values] if errors is None else list(map(_around, values, errors))
    points = points or [()] * len(values)
    reach = [limit for limits in (*spans, *points) for limit in limits] or [0.0]
    levels = steps(min(reach), max(reach))

    def x_of(value: float) -> float:
        return round(6 + (value - levels[0]) / (levels[-1] - levels[0]) * (WIDTH - 24), 1)

    rows = tuple(
        Strip(STRIP_HEIGHT * index, x_of(start), x_of(end), x_of(value), tuple(map(x_of, singles)))
        for index, ((start, end), value, singles) in enumerate(zip(spans, values, points, strict=True))
    )
    ticks = tuple(Tick(x_of(level), label) for level, label in zip(levels, labels_of(levels), strict=True))
    return Strips(rows, ticks, STRIP_HEIGHT * len(rows) + 22)


def _around(value: float, error: float) -> tuple[float, float]:
    return value - error, value + error


@dataclass(frozen=True)
class Reliability:
    """A calibration with its chart: a dot for each bin, whose area grows with its answers."""

    calibration: Calibration
    dots: tuple[tuple[Dot, float], ...]
    ticks: tuple[tuple[Tick, Tick], ...]


def reliability(calibration: Calibration) -> Reliability:
    """The chart of a calibration: probability to the right, share of right answers upwards, both from 0 to 1."""
    scales = Scales(2, 0.0, 1.0)
    most = max(each.count for each in calibration.bins)
    dots = tuple(
        (
            Dot(
                scales.x(each.probability),
                scales.y(each.accuracy),
                f"{each.count:,} answers with a probability of {each.probability:.2f} on average: "
                f"{each.accuracy:.0%} are right",
            ),
            round(3 + 7 * (each.count / most) ** 0.5, 1),
        )
        for each in calibration.bins
    )
    levels = [0.0, 0.25, 0.5, 0.75, 1.0]
    ticks = tuple((Tick(scales.x(level), f"{level:g}"), Tick(scales.y(level), f"{level:g}")) for level in levels)
    return Reliability(calibration, dots, ticks)


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
