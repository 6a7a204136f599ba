"""One row for each place to cut: what a linear head reached there, and how far that is from the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

Kind = Literal["input", "layer", "all"]
INPUT, ALL = "(the input)", "(all layers)"
# Standard errors of an interval that covers about 90 %: the predictions of all examples share one training set, so that
# 1.645 covers 78 to 81 % (docs/depth.md).
ERRORS = 2.1


@dataclass(frozen=True)
class Measured:
    """What a linear head reached on some features.

    scores         (count,) of each example, predicted by the others
    squared_error  mean
    """

    scores: Tensor
    squared_error: float


@dataclass(frozen=True)
class DepthRow:
    """One candidate: the input, a layer, or all layers together.

    name               of the last frozen layer, or INPUT, or ALL
    score              accuracy, the part of labels that are right, or the explained part of the variance
    standard_error     of the score
    explained          the part of the labels' variance that the head explains
    difference         its score less that of the choice, with its interval of about 90 %
    is_tied            whether that interval holds 0 or more
    shuffled           the score with shuffled weights; None where that was not measured
    bytes_per_example  of the tensor that would be cached, not averaged
    work_saved         the part of the forward's multiply-adds that need not be repeated, 0 to 1
    columns            numbers for each example on which the head was fitted
    """

    name: str
    kind: Kind
    score: float
    standard_error: float
    explained: float
    difference: float
    low: float
    high: float
    is_tied: bool
    bytes_per_example: int
    work_saved: float
    columns: int
    shuffled: float | None = None

    @property
    def score_text(self) -> str:
        """ "82.0 ± 3.9"."""
        return f"{100 * self.score:.1f} ± {100 * self.standard_error:.1f}"

    @property
    def interval_text(self) -> str:
        """ "-3.0 [-12.7, +6.7] tied"; nothing for the choice itself."""
        if self.low == self.high == self.difference == 0:
            return ""
        numbers = f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return f"{numbers}{' tied' if self.is_tied else ''}"


def rows_of(places: Sequence[DepthRow], measured: Sequence[Measured], variance: float) -> list[DepthRow]:
    """The rows with their scores, and their differences from the one with the smallest squared error."""
    best = measured[best_of(measured)]
    return [
        replace(
            row,
            score=float(own.scores.mean()),
            standard_error=_error_of(own.scores),
            explained=1 - own.squared_error / variance,
            **_paired(own.scores, best.scores, is_best=own is best),
        )
        for row, own in zip(places, measured, strict=True)
    ]


def best_of(measured: Sequence[Measured]) -> int:
    """The index of the smallest squared error, of equal ones the first."""
    errors = [each.squared_error for each in measured]
    return errors.index(min(errors))


def _error_of(scores: Tensor) -> float:
    """The standard error of the mean."""
    return float(scores.std(correction=1) / len(scores) ** 0.5)


def _paired(scores: Tensor, best: Tensor, *, is_best: bool) -> dict[str, Any]:
    """The mean difference of the same examples' scores, with its interval of about 90 %.

    No difference in any example still leaves half an example's doubt.
    """
    if is_best:
        return {"difference": 0.0, "low": 0.0, "high": 0.0, "is_tied": False}
    differences, count = scores - best, len(scores)
    spread = max(float(differences.std(correction=1)), 0.5 / count**0.5)
    mean, reach = float(differences.mean()), ERRORS * spread / count**0.5
    return {"difference": mean, "low": mean - reach, "high": mean + reach, "is_tied": mean + reach >= 0}
