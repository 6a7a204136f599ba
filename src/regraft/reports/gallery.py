"""Answers as pictures with captions, group by group, as the report shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from regraft.reports.outcomes import Outcomes


@dataclass(frozen=True)
class Shown:
    """One example: its picture ("" for none), its name, the answer, and the class where the answer is wrong."""

    picture: str
    name: str
    answer: str
    probability: float
    true: str


class Gallery:
    """The groups of examples that a page shows, each with a heading.

    groups  (heading, what it says, examples); those without examples are left out
    """

    def __init__(self, outcomes: Outcomes, classes: Sequence[str]) -> None:
        self.part = outcomes.part
        self._outcomes, self._classes = outcomes, classes
        wrong = sum(not outcomes.is_right(index) for index in range(len(outcomes.names)))
        groups = [
            ("Sample", "Chosen at random.", outcomes.sample()),
            (
                "Most confident mistakes",
                f"Of {wrong:,} wrong answers those with the highest probability.",
                outcomes.mistakes(),
            ),
        ]
        for true, predicted, count, few in outcomes.confused():
            groups.append((f"{self._name(true)} taken for {self._name(predicted)}", f"{count:,} of the examples.", few))
        self.groups = [(title, text, list(map(self._shown, indices))) for title, text, indices in groups if indices]

    def _shown(self, index: int) -> Shown:
        outcomes = self._outcomes
        return Shown(
            outcomes.pictures.get(index, ""),
            outcomes.names[index],
            self._name(outcomes.predicted[index]),
            outcomes.probability[index],
            "" if outcomes.is_right(index) else self._name(outcomes.true[index]),
        )

    def _name(self, number: int) -> str:
        """The class's name; its number where it has none."""
        return self._classes[number] if 0 <= number < len(self._classes) else str(number)
