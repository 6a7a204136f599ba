"""The advice: one row for each place to cut, the choice among them, and what can and cannot be said of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from regraft.depths.drawing import chart_of
from regraft.depths.rows import DepthRow
from regraft.foundation.wording import bytes_text, counted, share_text


@dataclass(frozen=True)
class DepthAdvice:
    """Where to cut a model for these examples, told by linear heads on frozen layers alone.

    choice     a layer's name, INPUT, ALL, or None: nothing explains enough of the labels
    layers     the places of the layers to give to `head_on_layers`; all of them for ALL, none for INPUT
    score      what the rows' scores are: "accuracy", "labels right" or "explained"
    chance     the score of a guess without features
    sentences  what can be said, the last one what cannot
    notes      what was left out or assumed
    seconds    by part
    """

    count: int
    outputs: int
    score: str
    chance: float
    rows: tuple[DepthRow, ...]
    choice: str | None
    layers: tuple[str, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def chosen(self) -> DepthRow | None:
        """The row of the choice."""
        return next((row for row in self.rows if row.name == self.choice), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        head = f"  {'freeze up to':<{width}}  {self.score:>14}  {'':<25} {'against the choice':<22}  "
        head += f"{'shuffled':>8}  {'per example':>11}  {'work saved':>10}"
        lines = [self.heading, "", head.rstrip(), *(self._line(row, width) for row in self.rows)]
        return "\n".join([*lines, "", *self.sentences, *(f"note: {note}" for note in self.notes)])

    @property
    def heading(self) -> str:
        """What was measured, in a sentence."""
        return (
            f"{counted(self.count, 'labelled example')}: an exact linear head on the frozen layers up to each, every "
            "example predicted by the others"
        )

    def _line(self, row: DepthRow, width: int) -> str:
        mark = "→" if row.name == self.choice else " "
        shuffled = "" if row.shuffled is None else f"{100 * row.shuffled:.1f}"
        numbers = f"{shuffled:>8}  {bytes_text(row.bytes_per_example):>11}  {share_text(row.work_saved):>10}"
        bar = _bar(row.score, self.chance)
        return f"{mark} {row.name:<{width}}  {row.score_text:>14}  {bar} {row.interval_text:<22}  {numbers}"

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in (*self.sentences, *self.notes))
        return f"<figure style='margin:0;max-width:30em'>{self.svg()}</figure>{said}"

    def svg(self) -> str:
        """The chart: score against depth, with its band, shuffled weights, chance, the input and all layers."""
        return chart_of(self.rows, self.choice, score=self.score, chance=self.chance)


def _bar(score: float, chance: float, width: int = 25) -> str:
    """The score as a bar from 0 to 1; the chance as a mark in it."""
    filled = round(width * min(1.0, max(0.0, score)))
    text = list("█" * filled + "·" * (width - filled))
    if 0 < chance < 1:
        text[min(width - 1, int(width * chance))] = "┊"
    return "".join(text)
