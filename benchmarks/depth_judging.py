"""Judge advisors on the rows of depth.py and depth_tuning.py: regret against the best place measured, by family."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import torch

Row = dict
FAMILIES = ("mlp", "convolution", "transformer")


@dataclass(frozen=True)
class Cell:
    """One source, target and number of labels: for each draw the candidates in the order of depth."""

    source: str
    family: str
    target: str
    n: int
    is_control: bool
    draws: tuple[dict[str, Row], ...]

    @property
    def cuts(self) -> list[str]:
        """The names of the cuts, from the first to the last."""
        return [name for name in self.draws[0] if name not in ("input", "all")]

    def truth(self, name: str) -> float:
        """The accuracy on test examples, mean over the draws."""
        return mean(draw[name]["truth"] for draw in self.draws)

    @property
    def is_random(self) -> bool:
        """Whether its labels are random."""
        return self.target.endswith("random")


def cells_of(rows: Sequence[Row]) -> list[Cell]:
    """The cells of the rows that are whole."""
    grouped: dict[tuple, dict[int, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        grouped[row["source"], row["family"], row["target"], row["n"], row["control"]][row["draw"]][row["name"]] = row
    found = [Cell(*key, tuple(draws.values())) for key, draws in grouped.items()]
    return [cell for cell in found if len(cell.draws) == 3 and all("all" in draw for draw in cell.draws)]


Advisor = Callable[[Cell, dict[str, Row]], str]  # a cell and one of its draws → the name of a candidate


def smallest(key: str, *more: str) -> Advisor:
    """The cut with the smallest value, or one of more candidates."""
    return lambda cell, draw: min([*more, *cell.cuts], key=lambda name: draw[name][key])


def largest_score(cell: Cell, draw: dict[str, Row]) -> str:
    """The cut with the best accuracy; of equal ones the first."""
    return max(cell.cuts, key=lambda name: draw[name]["score"])


def at_share(share: float) -> Advisor:
    """A constant depth."""
    return lambda cell, _: cell.cuts[min(len(cell.cuts) - 1, round(share * (len(cell.cuts) - 1)))]


def deepest_tied(cell: Cell, draw: dict[str, Row]) -> str:
    """The deepest cut within one standard error of the best accuracy."""
    best = max(cell.cuts, key=lambda name: draw[name]["score"])
    score, count = draw[best]["score"], len(draw[best]["right"])
    error = (score * (1 - score) / count) ** 0.5
    return [name for name in cell.cuts if draw[name]["score"] >= score - error][-1]


def learnt_elsewhere(cells: Sequence[Cell]) -> Advisor:
    """The constant depth that was best on all other sources."""
    shares = [number / 8 for number in range(9)]
    best: dict[str, float] = {}
    for source in {cell.source for cell in cells}:
        others = [cell for cell in cells if cell.source != source]
        best[source] = min(shares, key=lambda share: mean(regrets(others, at_share(share), [])))
    return lambda cell, draw: at_share(best[cell.source])(cell, draw)


def regrets(cells: Sequence[Cell], advisor: Advisor, more: Sequence[str]) -> list[float]:
    """Points of accuracy that each cell loses against the best candidate, mean over its draws.

    more  candidates beside the cuts for the best
    """
    losses = []
    for cell in cells:
        best = max(cell.truth(name) for name in [*more, *cell.cuts])
        losses.append(100 * (best - mean(cell.truth(advisor(cell, draw)) for draw in cell.draws)))
    return losses


def p90(values: Sequence[float]) -> float:
    """The value that nine of ten do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


def advisors_of(cells: Sequence[Cell]) -> dict[str, tuple[Advisor, list[str]]]:
    """Name → the advisor, and the candidates beside the cuts against which it is judged."""
    return {
        "**squared error, one of each class left out**": (smallest("error"), []),
        "squared error, one example left out": (smallest("alone_error"), []),
        "accuracy, one of each class left out": (largest_score, []),
        "deepest within one standard error": (deepest_tied, []),
        "best constant on other sources": (learnt_elsewhere(cells), []),
        "first cut": (at_share(0), []),
        "half way": (at_share(0.5), []),
        "three quarters": (at_share(0.75), []),
        "last cut": (at_share(1), []),
        "all cuts together": (lambda cell, draw: "all", []),
        "**squared error, one cut or all together**": (smallest("error", "all"), []),
        "**`advise`: also the input**": (smallest("error", "input", "all"), ["input"]),
        "always the input": (lambda cell, draw: "input", ["input"]),
        "last cut, against these": (at_share(1), ["input"]),
    }


def coverage(cells: Sequence[Cell], errors: float) -> tuple[float, int]:
    """How often the interval of (choice - last cut) holds the true difference of the same two heads."""
    hits = []
    for cell in cells:
        for draw in cell.draws:
            chosen, last = smallest("error", "input", "all")(cell, draw), cell.cuts[-1]
            if chosen != last:
                hits.append(_holds(draw[chosen], draw[last], errors))
    return (mean(hits) if hits else float("nan")), len(hits)


def multiplier(cells: Sequence[Cell]) -> float:
    """The number of standard errors at which these intervals would hold 90 % of the true differences."""
    return next((k / 20 for k in range(20, 100) if coverage(cells, k / 20)[0] >= 0.9), float("nan"))


def _holds(first: Row, second: Row, errors: float) -> bool:
    difference, error = _paired(first, second)
    return abs(difference - (first["truth"] - second["truth"])) <= errors * error


def _paired(first: Row, second: Row) -> tuple[float, float]:
    """The mean difference of the same examples' scores, and its standard error as `advise` takes it."""
    right = [torch.tensor([int(digit) for digit in row["right"]], dtype=torch.float64) for row in (first, second)]
    difference, count = right[0] - right[1], len(right[0])
    return float(difference.mean()), max(float(difference.std()), 0.5 / count**0.5) / count**0.5


def explained(draw: dict[str, Row]) -> float:
    """What the choice of `advise` explains of the labels' variance."""
    return 1 - min(row["error"] for row in draw.values())


def best_is_tied(cells: Sequence[Cell]) -> float:
    """How often the truly best candidate of a draw is the choice or within its interval."""
    hits = []
    for cell in cells:
        for draw in cell.draws:
            chosen = smallest("error", "input", "all")(cell, draw)
            best = max(draw, key=lambda name: draw[name]["truth"])
            right = [
                torch.tensor([int(d) for d in draw[name]["right"]], dtype=torch.float64) for name in (best, chosen)
            ]
            difference = right[0] - right[1]
            spread = max(float(difference.std()), 0.5 / len(difference) ** 0.5) / len(difference) ** 0.5
            hits.append(best == chosen or float(difference.mean()) + 2.1 * spread >= 0)
    return mean(hits)
