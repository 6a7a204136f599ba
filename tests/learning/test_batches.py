from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from regraft.caching import cache_features
from regraft.errors import TrainError
from regraft.examples import TensorExamples
from regraft.learning.batches import BatchSource, as_batches, in_memory, shuffled
from regraft.learning.ranks import Ranks
from regraft.learning.solvers import Steps
from regraft.splitting import split
from regraft.stores.folder import FolderStore
from regraft.training import train
from small_models import TwoParts, three_classes


def source_of(data, **options):
    return BatchSource(data, torch.device("cpu"), **{"order": None, "batch_size": 8, "seed": 0} | options)


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


def features(count, store=None, **options):
    """Features whose only value is the number of the example."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    model[0].requires_grad_(False)
    data = Numbered(count)
    trunk, _ = split(model, torch.zeros(2, 1))
    return cache_features(trunk, data, store, **options)


class Numbered(Dataset):
    """Each example is its number; drawn again, another view is 100 higher."""

    def __init__(self, count):
        self.count, self.drawn = count, Counter()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.drawn[index] += 1
        return torch.tensor([float(index)]), index % 3


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """So many features that are larger than memory, and the blocks that are read."""
    return lambda count: features(count, FolderStore(tmp_path, memory_bytes=0))


def first_column(inputs):
    (rows,) = inputs.values()
    return rows.reshape(-1)


def test_streamed_features_are_read_in_their_own_order(streamed):
    data = streamed(20)
    epoch = source_of(data, seed=3).epoch(2)
    batches = list(epoch)
    assert torch.equal(torch.cat([indices for indices, _, _ in batches]), data.order(2, seed=3))
    assert [len(indices) for indices in epoch.indices] == [8, 8, 4]
    assert all(torch.equal(first_column(inputs), indices.float()) for indices, inputs, _ in batches)


def test_a_single_last_row_of_a_stream_joins_the_batch_before(streamed):
    epoch = source_of(streamed(17)).epoch(0)
    batches = list(epoch)
    assert [len(labels) for _, _, labels in batches] == [len(indices) for indices in epoch.indices] == [8, 9]
    assert torch.equal(first_column(batches[-1][1]), epoch.indices[-1].float())


def test_a_given_order_is_followed_in_a_stream_too(streamed):
    epoch = source_of(streamed(20), order=lambda epoch: [[3, 1], [2]]).epoch(0)
    assert [(indices.tolist(), first_column(inputs).tolist()) for indices, inputs, _ in epoch] == [
        ([3, 1], [3.0, 1.0]),
        ([2], [2.0]),
    ]


def test_each_epoch_takes_its_own_view():
    data = features(16, views=2)
    source = source_of(data, order=lambda epoch: [torch.arange(4)])
    for number in range(3):
        expected, _ = data.for_epoch(number, seed=0).gather(torch.arange(4))
        assert torch.equal(first_column(next(iter(source.epoch(number)))[1]), first_column(expected))


def test_features_in_memory_are_gathered_as_whole_tensors():
    examples = in_memory(features(5), torch.device("cpu"))
    assert isinstance(examples, TensorExamples)


@pytest.mark.parametrize("order", [[], [[]], [[0, -1]]])
def test_batches_without_sense_are_refused(order):
    with pytest.raises(TrainError, match=r"no batch, or an empty one|has the index -1"):
        as_batches(order, 5)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_several_processes_share_each_batch(streamed, is_streamed):
    """Together they take what one alone takes, batch by batch; a part may be empty."""
    data = streamed(20) if is_streamed else (torch.arange(20.0)[:, None], torch.arange(20) % 3)
    whole = source_of(data, batch_size=4).epoch(1)
    parts = [source_of(data, batch_size=4, ranks=Ranks(rank, 3)).epoch(1) for rank in range(3)]
    fetched = [list(part) for part in parts]
    for number, batch in enumerate(whole.indices):
        shared = torch.cat([batches[number][0] for batches in fetched])
        assert torch.equal(shared.sort().values, batch.sort().values)
    for indices, inputs, _ in (batch for batches in fetched for batch in batches if len(batch[0])):
        rows = first_column(inputs) if is_streamed else inputs[:, 0]
        assert torch.equal(rows, indices.float())
