"""The answers of a model, task by task: what each holds, and how it is printed and written."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from regraft.foundation.wording import one_line


class Answer(ABC):
    """The answer for one example, whose `name` is the path of a file, or the row of a table or an array."""

    name: str

    @abstractmethod
    def text(self) -> str:
        """What the command line prints behind the name."""

    @abstractmethod
    def rows(self) -> list[dict[str, object]]:
        """The rows of a table of answers, without the name: columns and values."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # every answer is a dataclass


@final
@dataclass(frozen=True)
class Prediction(Answer):
    """One class.

    label          the class's name
    probability    softmax of that class's output
    probabilities  for every class, in the order of the model's outputs
    classes        their names
    """

    name: str
    label: str
    probability: float
    probabilities: tuple[float, ...]
    classes: tuple[str, ...] = ()

    def text(self) -> str:
        """The class and its probability."""
        return f"{one_line(self.label)}  {self.probability:.3f}"

    def rows(self) -> list[dict[str, object]]:
        """The class and its probability."""
        return [{"class": self.label, "probability": f"{self.probability:.6f}"}]


@final
@dataclass(frozen=True)
class Labels(Answer):
    """The labels that apply: those with a probability of 0.5 or more, and the probability of every label."""

    name: str
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]

    def text(self) -> str:
        """The labels with their probabilities."""
        named = [f"{one_line(label)} {self.probabilities[label]:.3f}" for label in self.labels]
        return ", ".join(named) or "no label"

    def rows(self) -> list[dict[str, object]]:
        """The labels, and a column of probabilities for each label."""
        numbers = {label: f"{probability:.6f}" for label, probability in self.probabilities.items()}
        return [{"labels": ";".join(self.labels), **numbers}]


@final
@dataclass(frozen=True)
class Numbers(Answer):
    """Numbers, in the unit of the labels that the model was trained on: by the name of their column."""

    name: str
    values: Mapping[str, float]

    def text(self) -> str:
        """The numbers."""
        return ", ".join(f"{one_line(column)} {value:.6g}" for column, value in self.values.items())

    def rows(self) -> list[dict[str, object]]:
        """A column for each number."""
        return [{column: f"{value:.9g}" for column, value in self.values.items()}]


@final
@dataclass(frozen=True)
class Tags(Answer):
    """A tag for each word, with the probability of the tag."""

    name: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]

    def text(self) -> str:
        """The words with their tags."""
        return " ".join(f"{one_line(word)}/{one_line(tag)}" for word, tag in zip(self.words, self.tags, strict=True))

    def rows(self) -> list[dict[str, object]]:
        """A row for each word."""
        return [
            {"position": position, "word": word, "tag": tag, "probability": f"{probability:.6f}"}
            for position, (word, tag, probability) in enumerate(
                zip(self.words, self.tags, self.probabilities, strict=True)
            )
        ]


@final
@dataclass(frozen=True)
class Mask(Answer):
    """A class for each pixel: the file of the mask, and the share of the pixels of each class."""

    name: str
    mask: str
    shares: Mapping[str, float]

    def text(self) -> str:
        """The file, and the classes in the order of their shares."""
        ordered = sorted(self.shares.items(), key=lambda item: -item[1])
        return f"{self.mask}  " + ", ".join(f"{one_line(name)} {share:.1%}" for name, share in ordered if share)

    def rows(self) -> list[dict[str, object]]:
        """The file, and a column with the share of each class."""
        return [{"mask": self.mask, **{name: f"{share:.6f}" for name, share in self.shares.items()}}]


@final
@dataclass(frozen=True)
class NextToken(Answer):
    """The most probable token after a text, and its probability."""

    name: str
    token: str
    probability: float

    def text(self) -> str:
        """The token and its probability."""
        return f"{one_line(self.token)!r}  {self.probability:.3f}"

    def rows(self) -> list[dict[str, object]]:
        """The token and its probability."""
        return [{"next": self.token, "probability": f"{self.probability:.6f}"}]


@final
@dataclass(frozen=True)
class Parts(Answer):
    """The answer of each of several tasks, by the name of its column."""

    name: str
    parts: Mapping[str, Answer]

    def text(self) -> str:
        """Each name with its answer; a number stands behind its name already."""
        texts = ((name, answer.text()) for name, answer in self.parts.items())
        return ", ".join(text if text.startswith(f"{one_line(name)} ") else f"{name} {text}" for name, text in texts)

    def rows(self) -> list[dict[str, object]]:
        """A column for each answer, and for its probabilities."""
        row: dict[str, object] = {}
        for name, answer in self.parts.items():
            (_, value), *others = answer.rows()[0].items()
            row |= {name: value, **{f"{name} {other}": number for other, number in others}}
        return [row]
