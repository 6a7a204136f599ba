import pytest
import torch

from regraft.errors import TrainError
from regraft.examples import Examples, TensorExamples
from regraft.learning.batches import Source, as_batches, held, shuffled
from regraft.learning.solvers import Steps
from regraft.training import train
from small_models import TwoParts, three_classes


def source_of(data, **options):
    return Source(data, torch.device("cpu"), **{"order": None, "batch_size": 8, "seed": 0} | options)


def test_the_shuffle_takes_each_example_once_and_differs_by_epoch():
    order = shuffled(10, 4, seed=1)
    first, second = torch.cat(list(order(0))), torch.cat(list(order(1)))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(order(0))))


def test_a_single_last_example_joins_the_batch_before():
    """BatchNorm refuses a batch of one; 33 examples by 8 would end in one."""
    assert [len(batch) for batch in shuffled(33, 8, seed=0)(0)] == [8, 8, 8, 9]
    assert [len(batch) for batch in shuffled(3, 1, seed=0)(0)] == [1, 1, 1]
    train(TwoParts(), three_classes(33), solver=Steps(batch_size=8, epochs=1))


class Streamed(Examples):
    """Features larger than memory, as a store gives them: an order of their own, read in blocks."""

    views, inputs = 1, None

    def __init__(self, count):
        self.rows, self.labels = torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count) % 3
        self.read = 0

    def __len__(self):
        return len(self.rows)

    def gather(self, indices):
        return {"cut": self.rows[indices]}, self.labels[indices]

    def order(self, epoch, *, seed=0):
        return torch.arange(len(self)).roll(epoch + seed)

    def batches(self, batch_size, *, epoch=0, seed=0):
        for indices in self.order(epoch, seed=seed).split(batch_size):
            self.read += 1
            yield indices, *self.gather(indices)


def test_streamed_features_are_read_in_their_own_order():
    data = Streamed(20)
    epoch = source_of(data, seed=3).epoch(2)
    batches = list(epoch)
    assert data.read == 3
    assert torch.equal(torch.cat([indices for indices, _, _ in batches]), torch.arange(20).roll(5))
    assert [len(indices) for indices in epoch.indices] == [8, 8, 4]
    assert all(torch.equal(inputs["cut"][:, 0], indices.float()) for indices, inputs, _ in batches)


def test_a_single_last_row_of_a_stream_joins_the_batch_before():
    epoch = source_of(Streamed(17)).epoch(0)
    batches = list(epoch)
    assert [len(labels) for _, _, labels in batches] == [len(indices) for indices in epoch.indices] == [8, 9]
    assert torch.equal(batches[-1][1]["cut"][:, 0], torch.arange(8.0, 17.0))


def test_a_given_order_is_followed_in_a_stream_too():
    data = Streamed(20)
    epoch = source_of(data, order=lambda epoch: [[3, 1], [2]]).epoch(0)
    assert [indices.tolist() for indices, _, _ in epoch] == [[3, 1], [2]]
    assert data.read == 0


class Views(Streamed):
    """Features with a view for each epoch."""

    views = 2
    inputs = None

    def for_epoch(self, epoch, *, seed=0):
        return TensorExamples({"cut": self.rows + 100 * (epoch % 2)}, self.labels)


def test_each_epoch_takes_its_own_view():
    source = source_of(Views(16), order=lambda epoch: [torch.arange(4)])
    seen = [next(iter(source.epoch(number)))[1]["cut"][0, 0].item() for number in range(3)]
    assert seen == [0.0, 100.0, 0.0]


def test_features_in_memory_are_gathered_as_whole_tensors():
    class InMemory(Streamed):
        @property
        def inputs(self):
            return {"cut": self.rows}

    examples = held(InMemory(5), torch.device("cpu"))
    assert isinstance(examples, TensorExamples)


@pytest.mark.parametrize("order", [[], [[]], [[0, -1]]])
def test_batches_without_sense_are_refused(order):
    with pytest.raises(TrainError, match=r"no batch, or one without|names example -1"):
        as_batches(order, 5)
