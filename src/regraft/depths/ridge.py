"""Ridge regression on fixed features, each example predicted by the others: exact for every strength at once.

One eigendecomposition serves all strengths and all left-out blocks: a block's residuals without it are (I - H)⁻¹ times
its residuals with it, where H is the block of the hat matrix (for one row: PRESS, Allen, "The relationship between
variable selection and data augmentation and a method for prediction", 1974; for several: Cook and Weisberg, "Residuals
and Influence in Regression", 1982).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 5))  # times the features' mean square
MOST_CLASSES = 64  # left out together; a larger matrix for each block costs more than it tells
NEGLIGIBLE = 1e-10  # of the largest eigenvalue: what lies below is rounding


@dataclass(frozen=True)
class LeftOut:
    """Predictions of every example by the others, for the strength with the lowest squared error.

    predictions  (count, outputs) float64
    errors       (count,) float64: squared, summed over the outputs
    strength     the index of that strength among STRENGTHS
    """

    predictions: Tensor
    errors: Tensor
    strength: int

    @property
    def squared_error(self) -> float:
        """The mean of the errors."""
        return float(self.errors.mean())


def predict_left_out(features: Tensor, targets: Tensor, blocks: Sequence[Tensor]) -> LeftOut:
    """Predictions of ridge regression with an intercept, each block of examples predicted by all others.

    features  (count, columns)
    targets   (count, outputs)
    blocks    each (several, size) int64: rows of examples that are left out together; every example is in one at least,
              and of one that is in several the mean counts
    """
    features, targets = features.double(), targets.double()
    count, mean = len(features), targets.mean(0)
    centred = features - features.mean(0)
    energy = float(centred.square().sum()) / count + 1e-12
    spectrum, axes = _decomposed(centred)
    projected = axes.T @ (targets - mean)
    times = torch.zeros(count, 1, dtype=torch.float64)
    for block in blocks:
        times.index_add_(0, block.flatten(), torch.ones(block.numel(), 1, dtype=torch.float64))
    best: LeftOut | None = None
    for number, strength in enumerate(STRENGTHS):
        shrunk = spectrum / (spectrum + strength * energy * count)
        residuals = targets - mean - axes @ (shrunk[:, None] * projected)
        left_out = torch.zeros_like(targets)
        for block in blocks:
            left_out.index_add_(0, block.flatten(), _residuals_without(axes, shrunk, residuals, block).flatten(0, 1))
        left_out /= times
        errors = left_out.square().sum(1)
        if best is None or float(errors.mean()) < best.squared_error:
            best = LeftOut(targets - left_out, errors, number)
    assert best is not None, "there are strengths"
    return best


def _decomposed(centred: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues of the Gram matrix that are not negligible, and its eigenvectors (count, values)."""
    count, columns = centred.shape
    if columns < count:
        values, right = torch.linalg.eigh(centred.T @ centred)
        kept = values > NEGLIGIBLE * values.amax().clamp(min=0)
        values, right = values[kept], right[:, kept]
        return values, centred @ right / values.sqrt()
    values, left = torch.linalg.eigh(centred @ centred.T)
    kept = values > NEGLIGIBLE * values.amax().clamp(min=0)
    return values[kept], left[:, kept]


def _residuals_without(axes: Tensor, shrunk: Tensor, residuals: Tensor, block: Tensor) -> Tensor:
    """The residuals (several, size, outputs) of the rows of a block, each block fitted without its own rows."""
    own = axes[block]
    hat = (own * shrunk) @ own.transpose(1, 2) + 1 / len(axes)
    identity = torch.eye(block.shape[1], dtype=torch.float64)
    without: Tensor = torch.linalg.solve((1 + 1e-9) * identity - hat, residuals[block])
    return without


def class_blocks(labels: Tensor) -> list[Tensor]:
    """Blocks of one example of each class, which leave the shares of the classes as they are.

    Leaving one example out alone lowers its own class's share: features that say nothing would predict any other class.
    Of classes with fewer examples some are in several blocks. Of more than MOST_CLASSES classes a block has some.

    labels  (count,) int64
    """
    members = [(labels == label).nonzero().flatten() for label in torch.unique(labels)]
    blocks = []
    for start in range(0, len(members), MOST_CLASSES):
        some = members[start : start + MOST_CLASSES]
        most = max(map(len, some))
        blocks.append(torch.stack([rows[torch.arange(most) % len(rows)] for rows in some], 1))
    return blocks


def single_blocks(count: int) -> list[Tensor]:
    """Each example by itself."""
    return [torch.arange(count)[:, None]]
