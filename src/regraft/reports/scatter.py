"""Charts of predicted numbers: against the true ones, and how often each error occurs."""

from collections.abc import Sequence
from dataclasses import dataclass

from regraft.reports.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Dot, Tick, labels_of, steps, thinned

MOST_DOTS = 600
BARS = 24


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram; `label` is shown on hover."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Scatter:
    """Predicted against true values, and the histogram of their differences.

    diagonal  where both are equal, as an SVG path
    zero      the x of no difference in the histogram
    """

    name: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    diagonal: str
    bars: tuple[Bar, ...]
    bar_ticks: tuple[Tick, ...]
    zero: float


def scatter(name: str, true: Sequence[float], predicted: Sequence[float]) -> Scatter:
    """The charts of one number; of very many examples some of them are drawn."""
    levels = steps(min(*true, *predicted), max(*true, *predicted))
    low, high = levels[0], levels[-1]
    across = {level: _between(level, low, high, LEFT, WIDTH - RIGHT) for level in levels}
    upwards = {level: _between(level, low, high, HEIGHT - BOTTOM, TOP) for level in levels}
    dots = tuple(
        Dot(
            _between(true[index], low, high, LEFT, WIDTH - RIGHT),
            _between(predicted[index], low, high, HEIGHT - BOTTOM, TOP),
            f"{name}: true {true[index]:.4g}, predicted {predicted[index]:.4g}",
        )
        for index in thinned(len(true), MOST_DOTS)
    )
    labels = labels_of(levels)
    bars, bar_ticks, zero = _histogram([guess - value for value, guess in zip(true, predicted, strict=True)])
    return Scatter(
        name,
        dots,
        tuple(Tick(across[level], label) for level, label in zip(levels, labels, strict=True)),
        tuple(Tick(upwards[level], label) for level, label in zip(levels, labels, strict=True)),
        f"M{across[low]} {upwards[low]}L{across[high]} {upwards[high]}",
        bars,
        bar_ticks,
        zero,
    )


def _histogram(residuals: Sequence[float]) -> tuple[tuple[Bar, ...], tuple[Tick, ...], float]:
    """Bars over equal parts of a range that is symmetric around 0."""
    reach = max(map(abs, residuals)) or 1.0
    levels = steps(-reach, reach)
    low, high = levels[0], levels[-1]
    part = (high - low) / BARS
    counts = [0] * BARS
    for residual in residuals:
        counts[min(int((residual - low) / part), BARS - 1)] += 1
    width = (WIDTH - LEFT - RIGHT) / BARS
    most = max(counts)
    bars = tuple(
        Bar(
            round(LEFT + number * width + 0.75, 1),
            _between(count, 0, most, HEIGHT - BOTTOM, TOP),
            round(width - 1.5, 1),
            round((HEIGHT - BOTTOM - TOP) * count / most, 1),
            f"{count:,} examples with {low + number * part:.4g} to {low + (number + 1) * part:.4g} too much",
        )
        for number, count in enumerate(counts)
        if count
    )
    labels = labels_of(levels)
    ticks = tuple(
        Tick(_between(x, low, high, LEFT, WIDTH - RIGHT), text) for x, text in zip(levels, labels, strict=True)
    )
    return bars, ticks, _between(0.0, low, high, LEFT, WIDTH - RIGHT)


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    """Where the value lies between two places of the chart."""
    return round(start + (end - start) * (value - low) / ((high - low) or 1), 1)
