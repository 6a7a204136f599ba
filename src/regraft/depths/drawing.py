"""The chart of an advice as SVG: depth downwards, the score to the right; readable in light and dark and on a phone."""

from collections.abc import Sequence
from html import escape

from regraft.depths.rows import ERRORS, DepthRow
from regraft.foundation.wording import bytes_text, share_text

WIDTH, LEFT, RIGHT, TOP, ROW = 360, 142, 14, 56, 28  # in SVG units: about one pixel on a phone
LONGEST = 22  # letters of a name
# The report's colours where they are; else ones that can be seen on white and on black.
COOL, WARM, MUTED = "var(--cool,#2b83c9)", "var(--warm,#c9702b)", "var(--muted,#84909c)"


def chart_of(rows: Sequence[DepthRow], choice: str | None, *, score: str, chance: float) -> str:
    """Score against depth with its band of about 90 %, shuffled weights dashed, chance dotted.

    The input and all layers together are lines through all depths. Filled dots are the choice and what is tied with it.
    """
    layers = [row for row in rows if row.kind == "layer"]
    scale = _Scale(rows, chance)
    height = TOP + ROW * len(layers) + 22
    ys = [TOP + ROW * index + ROW // 2 for index in range(len(layers))]
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui,sans-serif" font-size="11" '
        'style="display:block;width:100%;height:auto;overflow:visible">',
        f"<title>{escape(score)} of a linear head against the depth of the frozen layers</title>",
        *_ticks(scale, height, score),
        *_across(rows, scale, height, chance),
        _band(layers, ys, scale),
        _line([(row.shuffled, y) for row, y in zip(layers, ys, strict=True)], scale, MUTED, ' stroke-dasharray="4 3"'),
        _line([(row.score, y) for row, y in zip(layers, ys, strict=True)], scale, COOL, ' stroke-width="1.8"'),
    ]
    for row, y in zip(layers, ys, strict=True):
        parts += _row(row, y, scale, is_choice=row.name == choice)
    words = "band: about 90 % · filled: tied with the choice"
    words += " · dashed grey: shuffled weights" if any(row.shuffled is not None for row in layers) else ""
    return "".join([*parts, f'<text x="0" y="{height - 6}" style="fill:{MUTED};font-size:9px">{words}</text></svg>'])


class _Scale:
    """From scores to x; the axis begins below the lowest and ends at 100 % or above the highest."""

    def __init__(self, rows: Sequence[DepthRow], chance: float) -> None:
        lowest = min([chance, *(row.score - ERRORS * row.standard_error for row in rows)])
        self.low = max(-0.5, int(10 * lowest - (lowest < 0)) / 10) if lowest < 0.9 else 0.9
        self.high = 1.0

    def x(self, score: float) -> float:
        """The x of a score; one beyond the axis lies at its border."""
        share = (min(max(score, self.low), self.high) - self.low) / (self.high - self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> list[float]:
        """Round scores."""
        steps = 5 if self.high - self.low > 0.45 else 4
        step = max(0.02, round((self.high - self.low) / steps, 1) or 0.05)
        return [
            self.high - step * number for number in range(steps + 1) if self.high - step * number >= self.low - 1e-9
        ]


def _ticks(scale: _Scale, height: int, score: str) -> list[str]:
    lines = [
        f'<path d="M{scale.x(level)} {TOP - 4}V{height - 22}" stroke="{MUTED}" stroke-opacity=".25"/>'
        f'<text x="{scale.x(level)}" y="{TOP - 8}" text-anchor="middle" style="fill:{MUTED}">{100 * level:.0f} %</text>'
        for level in scale.ticks()
    ]
    return [*lines, f'<text x="0" y="{TOP - 8}" style="fill:{MUTED}">{escape(score)}</text>']


def _across(rows: Sequence[DepthRow], scale: _Scale, height: int, chance: float) -> list[str]:
    """The lines through all depths, with their names in two rows at the top."""
    lines = [("chance", chance, MUTED, "1 3", 26)]
    lines += [("input", row.score, WARM, "7 3", 14) for row in rows if row.kind == "input"]
    lines += [("all layers", row.score, COOL, "7 3", 26) for row in rows if row.kind == "all"]
    return [
        f'<path d="M{scale.x(value)} {y + 3}V{height - 22}" stroke="{colour}" stroke-dasharray="{dashes}" fill="none">'
        f"<title>{name}: {100 * value:.1f} %</title></path>"
        f'<text x="{scale.x(value)}" y="{y}" text-anchor="{_anchor(scale.x(value))}" style="fill:{colour}">'
        f"{name} {100 * value:.0f} %</text>"
        for name, value, colour, dashes, y in lines
    ]


def _anchor(x: float) -> str:
    return "end" if x > WIDTH - 50 else "middle"


def _band(rows: Sequence[DepthRow], ys: Sequence[int], scale: _Scale) -> str:
    low = [(scale.x(row.score - ERRORS * row.standard_error), y) for row, y in zip(rows, ys, strict=True)]
    high = [(scale.x(row.score + ERRORS * row.standard_error), y) for row, y in zip(rows, ys, strict=True)]
    points = " ".join(f"{x},{y}" for x, y in [*low, *reversed(high)])
    return f'<polygon points="{points}" fill="{COOL}" fill-opacity=".16"/>'


def _line(points: Sequence[tuple[float | None, int]], scale: _Scale, colour: str, more: str) -> str:
    known = " ".join(f"{scale.x(value)},{y}" for value, y in points if value is not None)
    return f'<polyline points="{known}" fill="none" stroke="{colour}"{more}/>' if known else ""


def _row(row: DepthRow, y: int, scale: _Scale, *, is_choice: bool) -> list[str]:
    """A layer's name, what it costs and saves, and its dot."""
    name = row.name if len(row.name) <= LONGEST else f"…{row.name[1 - LONGEST :]}"
    weight = ";font-weight:700" if is_choice else ""
    shuffled = "" if row.shuffled is None else f", shuffled weights {100 * row.shuffled:.1f} %"
    told = f"{row.name}: {100 * row.score:.1f} ± {100 * row.standard_error:.1f} %{shuffled}. {row.interval_text}"
    fill = COOL if is_choice or row.is_tied else "var(--page,none)"
    return [
        f'<text x="0" y="{y}" style="fill:currentColor{weight}">{"→ " if is_choice else ""}{escape(name)}</text>',
        f'<text x="0" y="{y + 11}" style="fill:{MUTED};font-size:9px">{bytes_text(row.bytes_per_example)} · '
        f"{share_text(row.work_saved)} saved</text>",
        f'<circle cx="{scale.x(row.score)}" cy="{y}" r="{5 if is_choice else 3.2}" style="fill:{fill};stroke:{COOL};'
        f'stroke-width:1.5px"><title>{escape(told.strip())}</title></circle>',
    ]
