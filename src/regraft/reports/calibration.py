"""Calibration: whether answers with a probability of 80 % are right in 80 % of the cases."""

from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The answers whose probability lies between two bounds.

    probability  their mean probability
    accuracy     the share of them that is right
    """

    count: int
    probability: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of answers agree with how often these are right.

    bins            of equal width from 0 to 1; those without answers are left out
    expected_error  mean |probability - accuracy| of the bins, weighted by their answers. Source: Naeini et al.,
                    Obtaining well calibrated probabilities using Bayesian binning, 2015
    overconfidence  mean probability - accuracy of all answers; above 0: the model is too sure
    """

    bins: tuple[Bin, ...]
    expected_error: float
    overconfidence: float


def calibration_of(probabilities: Sequence[float], rights: Sequence[bool]) -> Calibration:
    """The calibration of answers, of which there is at least one.

    probabilities  of the answers, from 0 to 1
    rights         whether each answer is right
    """
    members: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, right in zip(probabilities, rights, strict=True):
        members[min(int(probability * BINS), BINS - 1)].append((probability, right))
    bins = tuple(_bin_of(answers) for answers in members if answers)
    count = len(probabilities)
    error = sum(each.count * abs(each.probability - each.accuracy) for each in bins) / count
    return Calibration(bins, error, sum(probabilities) / count - sum(rights) / count)


def _bin_of(answers: Sequence[tuple[float, bool]]) -> Bin:
    count = len(answers)
    return Bin(
        count, sum(probability for probability, _ in answers) / count, sum(right for _, right in answers) / count
    )
