"""Data of another library as pairs, and a part of them."""

import torch

from regraft.examples import DatasetExamples, as_examples
from regraft.sources.source import Source


class Letters(Source):
    """Four rows whose labels and ids are known."""

    labels, classes = torch.tensor([0, 1, 1, 0]), ("a", "b")

    def __len__(self):
        return 4

    def __getitems__(self, indices):
        return [(torch.tensor([float(index)]), int(self.labels[index])) for index in indices]

    def content_ids(self, indices=None):
        return [f"row {index}" for index in (range(4) if indices is None else indices)]


def test_a_part_keeps_labels_classes_and_ids():
    """Without reading an example."""
    part = as_examples(Letters()).subset(torch.tensor([3, 1]))

    assert isinstance(part, DatasetExamples)
    assert part.labels.tolist() == [0, 1]
    assert part.classes == ("a", "b")
    assert part.content_ids() == ["row 3", "row 1"]
    assert part.content_ids([1]) == ["row 1"]
    assert part.gather(torch.tensor([0]))[0].tolist() == [[3.0]]
