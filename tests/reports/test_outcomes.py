"""Answers one by one, and which of them are shown."""

import csv

import pytest
import torch
from torch import nn

from regraft import cache_features, freeze, split
from regraft.datasets.labelled import Labelled, Target
from regraft.reports.outcomes import SHOWN, Outcomes, outcomes_of


class Images(Labelled):
    """Images of one value each; the label is the value."""

    def __init__(self, labels, *, are_images=True):
        self.labels = torch.tensor(labels)
        self.classes, self.are_images = ("a", "b", "c"), are_images
        self.ids = tuple(f"{index}.png" for index in range(len(labels)))

    def __getitem__(self, index):
        return torch.full((3, 4, 4), float(self.labels[index])), int(self.labels[index])


class Nearest(nn.Module):
    """Scores of three classes by the distance of an image's mean value."""

    def __init__(self):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 3, 1), nn.Parameter(torch.tensor([2.0]))
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, images):
        values = self.conv(images).mean((1, 2, 3))
        return -((values[:, None] - torch.tensor([0.0, 1.0, 1.4])).abs()) * self.scale


def test_each_example_has_its_answer_and_the_probability_of_it():
    """The class 2 is nearer to the model's third value than to its second; a model with other outputs has none."""
    data = Images([0, 1, 2, 2])
    outcomes = outcomes_of(Nearest(), data, data, "test")
    assert (outcomes.part, outcomes.names[3]) == ("test", "3.png")
    assert (outcomes.true, outcomes.predicted) == ((0, 1, 2, 2), (0, 1, 2, 2))
    scores = torch.tensor([[0.0, 1.0, 1.4]]).abs().mul(-2).softmax(1).max()
    assert outcomes.probability[0] == pytest.approx(float(scores))
    assert outcomes_of(nn.Conv2d(3, 3, 1), data, data, "test") is None
    data.target = Target("regression")
    assert outcomes_of(Nearest(), data, data, "test") is None


def test_a_head_answers_as_its_model():
    """From cached features; the pictures are those of the data."""
    model, data = Nearest(), Images([0, 1, 2])
    freeze(model, "conv")
    trunk, head = split(model, torch.stack([data[0][0], data[1][0]]))
    from_head = outcomes_of(head, cache_features(trunk, data), data, "test")
    whole = outcomes_of(model, data, data, "test")
    assert from_head.predicted == whole.predicted
    assert from_head.pictures == whole.pictures
    assert set(whole.pictures) == {0, 1, 2}
    assert not outcomes_of(model, data, Images([0, 1, 2], are_images=False), "test").pictures


OUTCOMES = Outcomes(
    "test",
    names=("a", 'b"', "c", "d", "e"),
    true=(0, 0, 1, 1, 1),
    predicted=(0, 1, 0, 0, 1),
    probability=(0.9, 0.6, 0.7, 0.95, 0.5),
)


def test_mistakes_come_by_their_probability_and_confusions_by_their_number():
    """The sample is always the same; every example that is shown is listed once."""
    assert OUTCOMES.mistakes() == [3, 2, 1]
    assert OUTCOMES.confused() == [(1, 0, 2, [2, 3]), (0, 1, 1, [1])]
    assert sorted(OUTCOMES.sample()) == [0, 1, 2, 3, 4]
    assert OUTCOMES.sample() == OUTCOMES.sample()
    assert sorted(OUTCOMES.shown()) == [0, 1, 2, 3, 4]
    many = Outcomes("test", tuple("a" * 50), (0,) * 50, (1,) * 50, (0.5,) * 50)
    assert len(many.mistakes()) == len(many.sample()) == SHOWN


def test_the_answers_are_a_table():
    """With class names where there are some, and quotes as CSV has them."""
    rows = list(csv.DictReader(OUTCOMES.to_csv(["cat"]).splitlines()))
    assert rows[1] == {"name": 'b"', "true": "cat", "predicted": "1", "probability": "0.600000"}
    assert len(rows) == 5
