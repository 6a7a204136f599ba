"""The exact optimum of a linear head under cross-entropy: L-BFGS, prepared by the spectrum of the features.

The loss's curvature for class k is near mean(p_k (1 - p_k)) times the features' second moments (Böhning, "Multinomial
logistic regression algorithm", 1992). One eigendecomposition of those moments therefore serves every class, iteration
and strength of regularisation as the first guess of the inverse curvature, which L-BFGS (Liu and Nocedal, 1989)
corrects. Several strengths are solved side by side: each block of features is read once for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from regraft.learning.ranks import ALONE, Ranks

TOLERANCE = 1e-6  # stop when the next step promises less than this part of the loss
MOST_ITERATIONS = 300
MEMORY = 10  # pairs that L-BFGS remembers; 30 saved no evaluation
BLOCK_VALUES = 1 << 21  # of features taken at once: both products then find them in a processor's cache
MOST_COLUMNS = 2048  # beyond, a decomposition costs more than it saves: the moments' diagonal serves
ROWS_PER_COLUMN = 16  # that the moments are taken from, at most; they need not be exact
FAR = 10  # standard deviations: a column whose mean lies further from 0 hides its own spread in float32's moments


@final
@dataclass(frozen=True)
class Solution:
    """One strength's optimum.

    weight       (classes, columns), bias (classes,) or None
    loss         mean cross-entropy over the examples, without the penalty
    iterations   until the tolerance, or until they ran out
    """

    weight_decay: float
    weight: Tensor
    bias: Tensor | None
    loss: float
    iterations: int


def solve_linear(
    features: Tensor, labels: Tensor, classes: int, weight_decays: Sequence[float], *, has_bias: bool = True,
    ranks: Ranks = ALONE,
) -> list[Solution]:  # fmt: skip
    """The minima of mean cross-entropy + ½ · weight_decay · |weight|², one for each strength.

    features       (count, columns) float32
    labels         (count,) int64, 0 … classes - 1
    weight_decays  each above 0: 1 / (count · C) is what scikit-learn calls C. The bias is not penalised
    ranks          processes that have the same features, and each sum over a part of them. All return the solution
                   of rank 0, which leads

    Deterministic for a number of threads and processes. Within 1e-6 of the lowest loss, relative, as a rule.
    """
    centre = _far_centre(features) if has_bias else None
    if ranks.are_several:
        centre = ranks.from_first(centre)
    moved = features if centre is None else features - centre.to(features.device)
    problem = _Problem(moved, labels, classes, has_bias=has_bias, ranks=ranks)
    solutions = _solved(problem, classes, weight_decays, centre) if ranks.is_first else problem.follow()
    return ranks.from_first(solutions)


def _solved(problem: "_Problem", classes: int, weight_decays: Sequence[float], centre: Tensor | None) -> list[Solution]:
    """The solutions, found by rank 0."""
    features, has_bias = problem.features, problem.has_bias
    decays = torch.tensor(weight_decays, dtype=torch.float64, device=features.device)
    start = features.new_zeros(len(weight_decays), classes, problem.columns + has_bias)
    points, iterations = _minimise(problem, start, decays)
    losses = problem.evaluate(points, torch.zeros_like(decays)).value
    problem.end()
    return [
        Solution(
            float(decay), point[:, : problem.columns], _bias(point, centre) if has_bias else None, float(loss),
            int(count),
        )
        for decay, point, loss, count in zip(weight_decays, points, losses, iterations, strict=True)
    ]  # fmt: skip


def _far_centre(features: Tensor) -> Tensor | None:
    """The columns' means, where one is far from 0 beside its spread: the bias, free of penalty, takes up the shift."""
    spread, centre = torch.std_mean(features, 0)
    return centre if bool((centre.abs() > FAR * spread).any()) else None


def _bias(point: Tensor, centre: Tensor | None) -> Tensor:
    """The bias for the features as they are, of a solution for those around their centre."""
    if centre is None:
        return point[:, -1]
    return (point[:, -1].double() - point[:, :-1].double() @ centre.double()).float()


def mean_square(features: Tensor) -> float:
    """The mean of the squared features: what strengths are measured by."""
    return float(features.square().mean(dtype=torch.float64))


@final
@dataclass
class _Point:
    """The loss at several points: value (points,), gradient (points, classes, columns), curvature (points, classes)."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor

    def replaced(self, mask: Tensor, other: "_Point") -> "_Point":
        """The same with the rows of the mask (bool) taken from the other."""
        wide = mask[:, None, None]
        return _Point(
            torch.where(mask, other.value, self.value),
            torch.where(wide, other.gradient, self.gradient),
            torch.where(mask[:, None], other.curvature, self.curvature),
        )


class _Problem:
    """Cross-entropy of a linear map over all examples, for several maps at once."""

    def __init__(self, features: Tensor, labels: Tensor, classes: int, *, has_bias: bool, ranks: Ranks = ALONE) -> None:
        self.columns, self.count, self.has_bias = features.shape[1], len(features), has_bias
        self.features, self.classes, self.ranks = features, classes, ranks
        rows = max(256, BLOCK_VALUES // max(self.columns, classes))
        mine = slice(self.count * ranks.rank // ranks.count, self.count * (ranks.rank + 1) // ranks.count)
        self.blocks = list(zip(torch.split(features[mine], rows), torch.split(labels[mine], rows), strict=True))
        if ranks.is_first:
            self.spectrum, self.axes = self._moments(features)

    def follow(self) -> list[Solution]:
        """Add this rank's sums wherever rank 0 evaluates, until it ends; nothing is solved here."""
        count = torch.zeros((), dtype=torch.int64, device=self.features.device)
        while several := int(self.ranks.copy_from_first(count)):
            points = self.features.new_empty(several, self.classes, self.columns + self.has_bias)
            self._sums(self.ranks.copy_from_first(points))
        return []

    def end(self) -> None:
        """Let the other ranks end."""
        self._lead(0)

    def _lead(self, several: int) -> None:
        """Let the other ranks evaluate so many points."""
        if self.ranks.are_several:
            self.ranks.copy_from_first(torch.tensor(several, device=self.features.device))

    def evaluate(self, points: Tensor, decays: Tensor) -> _Point:
        """Losses with their penalties, gradients, and mean p (1 - p) for each class."""
        self._lead(len(points))
        sums = self._sums(self.ranks.copy_from_first(points.contiguous()))
        value, gradient, curvature = sums.value, sums.gradient / self.count, sums.curvature
        weight = points[..., : self.columns]
        gradient[..., : self.columns] += decays.float()[:, None, None] * weight
        penalty = 0.5 * decays * weight.square().sum((1, 2), dtype=torch.float64)
        return _Point(value / self.count + penalty, gradient, curvature / self.count)

    def _sums(self, points: Tensor) -> _Point:
        """Sums over the examples of all ranks, without penalties."""
        several, classes, width = points.shape
        maps = points.reshape(several * classes, width)
        weight = maps[:, : self.columns]
        value = torch.zeros(several, dtype=torch.float64, device=points.device)
        gradient, curvature = torch.zeros_like(maps), points.new_zeros(several, classes)
        for rows, labels in self.blocks:
            # Classes down, examples across: torch's softmax is several times quicker along the first of two axes.
            logits = torch.addmm(maps[:, -1:], weight, rows.t()) if self.has_bias else weight @ rows.t()
            logs = torch.log_softmax(logits.view(several, classes, -1), 1)
            right = labels.expand(several, 1, -1)
            value -= logs.gather(1, right).sum((1, 2), dtype=torch.float64)
            shares = logs.exp_()
            curvature += shares.sum(2) - shares.square().sum(2)
            shares.scatter_add_(1, right, shares.new_full((), -1.0).expand(right.shape))
            flat = shares.view(several * classes, -1)
            gradient[:, : self.columns].addmm_(flat, rows)
            if self.has_bias:
                gradient[:, -1] += flat.sum(1)
        sums = (value, gradient.view_as(points), curvature)
        return _Point(*(self.ranks.sum(values) if self.ranks.are_several else values for values in sums))

    def undo_curvature(self, vectors: Tensor, curvature: Tensor, decays: Tensor) -> Tensor:
        """The vectors times the first guess of the inverse curvature."""
        scale = curvature[..., None] * self.spectrum + decays.float()[:, None, None]
        turned = vectors if self.axes is None else vectors @ self.axes
        turned = turned / scale.clamp_min(1e-12)
        return turned if self.axes is None else turned @ self.axes.t()

    def _moments(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Eigenvalues and axes of the second moments of features and bias, from a part of the rows."""
        step = max(1, self.count // (ROWS_PER_COLUMN * self.columns))
        part = features[::step]
        if self.has_bias:
            part = torch.cat([part, part.new_ones(len(part), 1)], 1)
        if self.columns > MOST_COLUMNS:
            return part.square().mean(0), None
        try:
            spectrum, axes = torch.linalg.eigh(part.t() @ part / len(part))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # nearly equal features: a rougher guess will do
            return part.square().mean(0), None
        return spectrum.clamp_min(0), axes


def _minimise(problem: _Problem, points: Tensor, decays: Tensor) -> tuple[Tensor, Tensor]:
    """The points moved to their minima, and how many iterations each took."""
    here = problem.evaluate(points, decays)
    iterations = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    active = torch.ones(len(points), dtype=torch.bool, device=points.device)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(MOST_ITERATIONS):
        direction = _direction(problem, here, pairs, decays)
        promise = -_dot(here.gradient, direction)
        active = active & (promise > TOLERANCE * here.value)
        if not active.any():
            break
        moved, there = _search(problem, points, here, direction, promise, decays, active)
        pairs = [*pairs[-MEMORY + 1 :], (moved - points, there.gradient - here.gradient)]
        points, here = moved, there
        iterations += active
    return points, iterations


def _search(
    problem: _Problem, points: Tensor, here: _Point, direction: Tensor, promise: Tensor, decays: Tensor, active: Tensor
) -> tuple[Tensor, _Point]:
    """The next points, where the loss has fallen enough (Armijo); a shorter step is found by a parabola.

    Points that are at rest, or for which no step helps, stay.
    """
    length = torch.ones_like(here.value)
    moved, there, open_ = points, here, active
    for _ in range(20):
        rows = open_.nonzero()[:, 0]
        trial = points[rows] + length[rows, None, None].float() * direction[rows]
        whole = _scattered(here, rows, problem.evaluate(trial, decays[rows]))
        enough = open_ & (whole.value <= here.value - 1e-4 * length * promise)
        moved = torch.where(enough[:, None, None], points.index_copy(0, rows, trial), moved)
        there = there.replaced(enough, whole)
        open_ = open_ & ~enough
        if not open_.any():
            break
        parabola = promise * length.square() / (2 * (whole.value - here.value + length * promise))
        shorter = parabola.nan_to_num(0.0).clamp(min=0.1 * length, max=0.5 * length)
        length = torch.where(open_, shorter, length)
    return moved, there


def _scattered(whole: _Point, rows: Tensor, part: _Point) -> _Point:
    """The points with these rows (indices) replaced by the part's."""
    return _Point(
        whole.value.index_copy(0, rows, part.value),
        whole.gradient.index_copy(0, rows, part.gradient),
        whole.curvature.index_copy(0, rows, part.curvature),
    )


def _direction(problem: _Problem, here: _Point, pairs: list[tuple[Tensor, Tensor]], decays: Tensor) -> Tensor:
    """L-BFGS's two loops, for all points at once; pairs without curvature count as nothing."""
    rest, taken = here.gradient, []
    for step, change in reversed(pairs):
        share = _ratio(_dot(step, rest), _dot(step, change))
        rest = rest - share * change
        taken.append(share)
    result = problem.undo_curvature(rest, here.curvature, decays)
    if pairs:
        step, change = pairs[-1]
        guess = problem.undo_curvature(change, here.curvature, decays)
        scale = _ratio(_dot(step, change), _dot(change, guess))
        result = result * torch.where(scale > 0, scale, torch.ones_like(scale))
    for (step, change), share in zip(pairs, reversed(taken), strict=True):
        result = result + (share - _ratio(_dot(change, result), _dot(step, change))) * step
    return -result


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((1, 2), dtype=torch.float64)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient, broadcast over a point; 0 where there is no curvature to divide by."""
    ratio = torch.where(below > 1e-20, above / below.clamp_min(1e-20), torch.zeros_like(above))
    return ratio.float()[:, None, None]
