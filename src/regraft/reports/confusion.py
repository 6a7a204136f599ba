"""The confusion matrix as the report shows it: numbers while it is small, a picture when it is large."""

from collections.abc import Sequence
from dataclasses import dataclass

from regraft.reports.charts import heat_paths, shade

Matrix = Sequence[Sequence[int]]  # (classes, classes): row = true class, column = predicted class

NUMBERED_CLASSES = 16  # a matrix with more classes is drawn without numbers …
DRAWN_CLASSES = 200  # … and with still more it is not drawn: a class would be less than two pixels
LISTED_CLASSES = 100
LISTED_PAIRS = 10


@dataclass(frozen=True)
class ClassRow:
    """One class: how many examples it has, how many were recognised, and what the others were mostly taken for.

    count      examples of the class (the support)
    found      those that were recognised
    predicted  examples of any class that were taken for it
    """

    name: str
    count: int
    found: int
    predicted: int
    taken_for: str

    @property
    def precision(self) -> float:
        """Share of the examples taken for the class that belong to it; 0 where none was."""
        return self.found / self.predicted if self.predicted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where the class was never found."""
        return 2 * self.found / (self.count + self.predicted) if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the class's examples that were recognised; 0 without examples."""
        return self.found / self.count if self.count else 0.0


@dataclass(frozen=True)
class Confusion:
    """What the page shows of a matrix.

    numbered  whether the matrix is shown as numbers
    table     for each class its score, and for each cell the count and its colour's class
    paths     the matrix as SVG paths by colour; empty when it is numbered or too large
    pairs     the most frequent confusions: count, true class, predicted class
    weakest   the classes with examples, the lowest recall first
    """

    names: list[str]
    numbered: bool
    table: list[tuple[ClassRow, list[tuple[int, str]]]]
    paths: dict[str, str]
    pairs: list[tuple[int, str, str]]
    weakest: list[ClassRow]


def confusion_of(matrix: Matrix, classes: Sequence[str]) -> Confusion:
    """The matrix and what it says about each class; a class without a name gets its number."""
    size = len(matrix)
    names = [*classes[:size], *map(str, range(len(classes), size))]
    shares = [[count / (sum(row) or 1) for count in row] for row in matrix]
    predicted = [sum(column) for column in zip(*matrix, strict=True)]
    scores = [_class_score(names, index, row, predicted[index]) for index, row in enumerate(matrix)]
    weakest = sorted(filter(lambda score: score.count, scores), key=lambda score: score.recall)  # ties in class order
    return Confusion(
        names=names,
        numbered=size <= NUMBERED_CLASSES,
        table=[(score, _cells(matrix[index], shares[index], index)) for index, score in enumerate(scores)],
        paths=heat_paths(shares) if NUMBERED_CLASSES < size <= DRAWN_CLASSES else {},
        pairs=_confused_pairs(matrix, names)[:LISTED_PAIRS],
        weakest=weakest[:LISTED_CLASSES],
    )


def _class_score(names: Sequence[str], index: int, row: Sequence[int], predicted: int) -> ClassRow:
    others = [(count, -column) for column, count in enumerate(row) if column != index and count]
    taken_for = names[-max(others)[1]] if others else ""
    return ClassRow(names[index], sum(row), row[index], predicted, taken_for)


def _cells(counts: Sequence[int], shares: Sequence[float], row: int) -> list[tuple[int, str]]:
    colours = [("hit" if row == column else "miss") + str(shade(share)) if share else ""
               for column, share in enumerate(shares)]  # fmt: skip
    return list(zip(counts, colours, strict=True))


def _confused_pairs(matrix: Matrix, names: Sequence[str]) -> list[tuple[int, str, str]]:
    """Each wrong cell that has examples, the most frequent first."""
    pairs = [
        (count, names[true], names[predicted])
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(pairs, key=lambda pair: -pair[0])
