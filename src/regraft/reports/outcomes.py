"""What a model answered for labelled examples one by one, and which of them a reader should see."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO

import torch
from torch import Tensor, nn

from regraft.datasets.labelled import Labelled
from regraft.examples import all_indices, as_examples, batches
from regraft.learning.learner import Learner, to_device
from regraft.reports.pictures import pictures_of
from regraft.tasks.outputs import find_logits
from regraft.tensors.keeping import kept_modes

COLUMNS = ("name", "true", "predicted", "probability")
SHOWN = 12  # examples in each group
SHOWN_PAIRS = 3
SHOWN_OF_PAIR = 4


@dataclass(frozen=True)
class Outcomes:
    """The answers for the examples of one part of the data, in their order.

    names        of the examples: a path, a row
    true         number of each example's class
    predicted    number of the class with the largest output
    probability  softmax of that output
    pictures     index of an example → the image as the model saw it, as a data URI; of the examples to be shown
    """

    part: str
    names: tuple[str, ...]
    true: tuple[int, ...]
    predicted: tuple[int, ...]
    probability: tuple[float, ...]
    pictures: Mapping[int, str] = field(default_factory=dict)

    def is_right(self, index: int) -> bool:
        """Whether the answer is the example's class."""
        return self.true[index] == self.predicted[index]

    def to_csv(self, classes: Sequence[str]) -> str:
        """A row for each example: name, true and predicted class, probability of the answer."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        columns = (self.names, self.true, self.predicted, self.probability)
        for name, true, predicted, probability in zip(*columns, strict=True):
            writer.writerow([name, _named(true, classes), _named(predicted, classes), f"{probability:.6f}"])
        return text.getvalue()

    def sample(self) -> list[int]:
        """Examples chosen at random, always the same."""
        order = torch.randperm(len(self.names), generator=torch.Generator().manual_seed(0)).tolist()
        return order[:SHOWN]

    def mistakes(self) -> list[int]:
        """The wrong answers, those with the highest probability first."""
        wrong = [index for index in range(len(self.names)) if not self.is_right(index)]
        return sorted(wrong, key=lambda index: -self.probability[index])[:SHOWN]

    def confused(self) -> list[tuple[int, int, int, list[int]]]:
        """(true class, predicted class, how often, a few of the examples) for the most frequent confusions."""
        pairs = list(zip(self.true, self.predicted, strict=True))
        counts = Counter(pair for pair in pairs if pair[0] != pair[1])
        return [
            (*pair, count, [index for index, other in enumerate(pairs) if other == pair][:SHOWN_OF_PAIR])
            for pair, count in counts.most_common(SHOWN_PAIRS)
        ]

    def shown(self) -> list[int]:
        """All examples of these groups, each once."""
        of_pairs = [index for *_, few in self.confused() for index in few]
        return list(dict.fromkeys([*self.sample(), *self.mistakes(), *of_pairs]))


def outcomes_of(trained: nn.Module, examples: object, dataset: Labelled, part: str) -> Outcomes | None:
    """The answers of a model or head for each example; None where the outputs are no scores of classes.

    examples  what `trained` takes: features, or the data set itself
    dataset   the same examples with names and, where they are images, their pictures
    """
    if dataset.class_numbers() is None:
        return None
    learner = Learner(trained)
    rows = as_examples(examples)
    found: list[Tensor] = []
    with kept_modes(learner.model), torch.no_grad():
        learner.model.eval()
        for _, inputs, labels in batches(rows, all_indices(rows), 64):
            logits = find_logits(learner.outputs(to_device(inputs, learner.device)))
            if logits is None or logits.ndim != 2 or labels.ndim != 1 or labels.is_floating_point():
                return None
            probability, predicted = logits.double().softmax(1).max(1)
            found.append(torch.stack([labels.double(), predicted.cpu().double(), probability.cpu()]))
    true, predicted, probability = torch.cat(found, 1)
    outcomes = Outcomes(part, tuple(dataset.ids), _whole(true), _whole(predicted), tuple(probability.tolist()))
    return _with_pictures(outcomes, dataset) if dataset.are_images else outcomes


def _named(number: int, classes: Sequence[str]) -> str:
    """The class's name; its number where it has none."""
    return classes[number] if 0 <= number < len(classes) else str(number)


def _whole(values: Tensor) -> tuple[int, ...]:
    return tuple(values.long().tolist())


def _with_pictures(outcomes: Outcomes, dataset: Labelled) -> Outcomes:
    """The outcomes with a picture of each example that is shown; the images are decoded again."""
    shown = outcomes.shown()
    pictures: Sequence[str] = pictures_of([dataset[index][0] for index in shown])
    known = {index: picture for index, picture in zip(shown, pictures, strict=True) if picture}
    return replace(outcomes, pictures=known)
