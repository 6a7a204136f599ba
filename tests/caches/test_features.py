"""Features as a data set, as whole batches, as NumPy arrays, and streamed from a store."""

import pickle
import threading

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

from regraft.caches.rows import StoredRows
from regraft.caches.streaming import block_rows
from regraft.caching import cache_features
from regraft.errors import CacheError
from regraft.evaluating import evaluate
from regraft.examples import Examples, as_examples
from regraft.freezing import freeze
from regraft.learning.solvers import Steps
from regraft.splitting import split
from regraft.stores.folder import FolderStore
from regraft.tensors.trees import map_tree
from regraft.training import train
from trunks import plainly, tiny_data, tiny_trunk


@pytest.fixture(params=["held", "streamed"])
def features(request, tmp_path):
    """200 rows, in memory or read from the folder as they are asked for."""
    store = None if request.param == "held" else FolderStore(tmp_path, memory_bytes=0)
    return cache_features(tiny_trunk(), tiny_data(200), store, batch_size=8)


def expected():
    """The same rows by a plain loop."""
    return plainly(tiny_trunk(), tiny_data(200)[0], 8)


def test_features_are_a_data_set(features):
    """(dict of leaf → row, label), negative indices as in a list, an end."""
    rows, labels = expected(), tiny_data(200)[1]
    assert len(features) == 200
    assert torch.equal(features[7][0]["hidden"], rows[7])
    assert torch.equal(features[-1][0]["hidden"], rows[199])
    assert features[7][1] == labels[7]
    with pytest.raises(IndexError, match="200 examples have no index"):
        features[200]


def test_features_are_examples(features):
    """So `train` takes them as they are."""
    assert isinstance(features, Examples)
    assert as_examples(features) is features


def test_whole_batches_keep_the_order_asked_for(features):
    """Repeated and unsorted indices included."""
    wanted = torch.tensor([5, 199, 0, 5, 3])
    inputs, labels = features.gather(wanted)
    assert torch.equal(inputs["hidden"], expected()[wanted])
    assert torch.equal(labels, tiny_data(200)[1][wanted])


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_loader_takes_them(features, workers):
    """In this process and in others."""
    loader = DataLoader(features, batch_size=32, shuffle=False, num_workers=workers)
    rows = torch.cat([inputs["hidden"] for inputs, _ in loader])
    assert torch.equal(rows, expected())


@pytest.mark.parametrize("batch_size", [7, 64, 500])
def test_an_epoch_gives_each_example_once_in_the_order_that_is_told(features, batch_size):
    """`batches` follows `order`; every row belongs to its index."""
    rows, labels = expected(), tiny_data(200)[1]
    seen = []
    for indices, inputs, told in features.batches(batch_size, epoch=2, seed=5):
        assert torch.equal(inputs["hidden"], rows[indices])
        assert torch.equal(told, labels[indices])
        seen.append(indices)
    assert all(len(indices) == min(batch_size, 200) for indices in seen[:-1])
    assert torch.equal(torch.cat(seen), features.order(2, seed=5))
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(200))


def test_a_given_order_is_followed_batch_by_batch(features):
    """Of any sizes, with repetitions; none at all too."""
    given = [torch.tensor([5, 199, 0]), torch.tensor([7]), torch.tensor([0, 0, 3, 5])]
    got = list(features.in_order(given))
    for wanted, (indices, inputs, labels) in zip(given, got, strict=True):
        assert torch.equal(indices, wanted)
        assert torch.equal(inputs["hidden"], expected()[wanted])
        assert torch.equal(labels, tiny_data(200)[1][wanted])
    assert list(features.in_order([])) == []


@pytest.mark.parametrize("work", ["train", "evaluate"])
def test_whoever_asks_for_batches_in_order_has_them_read_ahead(tmp_path, monkeypatch, work):
    """Training in an order of its own, and scoring."""
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(4, 3))
    freeze(model, "0")
    trunk, head = split(model, torch.ones(2, 6))
    store = FolderStore(tmp_path, memory_bytes=0)
    features = cache_features(trunk, tiny_data(200), store, batch_size=8)
    readers, read = [], StoredRows.read
    monkeypatch.setattr(
        StoredRows,
        "read",
        lambda self, *given: (readers.append(threading.current_thread().name), read(self, *given))[1],
    )

    if work == "train":
        train(head, features, solver=Steps(epochs=1, order=lambda _: torch.arange(200).split(32)))
    else:
        evaluate(head, features)

    assert sum(name.startswith("regraft-features") for name in readers) >= 1


def test_streamed_features_go_to_another_process_in_a_pickle(tmp_path):
    """As DataLoader's workers do where processes are not forked."""
    features = cache_features(tiny_trunk(), tiny_data(200), FolderStore(tmp_path, memory_bytes=0), batch_size=8)
    there = pickle.loads(pickle.dumps((features.rows, features.positions)))
    assert torch.equal(there[0].gather(there[1][:, 0])["hidden"], expected())


def test_epochs_and_seeds_differ_and_repeat(features):
    """The same pair gives the same order."""
    assert torch.equal(features.order(1, seed=3), features.order(1, seed=3))
    assert not torch.equal(features.order(1, seed=3), features.order(2, seed=3))
    assert not torch.equal(features.order(1, seed=3), features.order(1, seed=4))


def test_a_short_last_batch_can_be_left_out(features):
    """As DataLoader's drop_last."""
    assert sum(len(indices) for indices, _, _ in features.batches(64, drop_last=True)) == 192


def test_scikit_learn_gets_plain_arrays(features):
    """One row per example, float32."""
    values, labels = features.to_numpy()
    assert (values.shape, str(values.dtype)) == ((200, 4), "float32")
    assert torch.equal(torch.from_numpy(values), expected())
    assert labels.tolist() == tiny_data(200)[1].tolist()


def test_only_rows_in_memory_are_given_as_whole_tensors(features, tmp_path):
    """`inputs` is None when they are streamed."""
    assert (features.inputs is None) == (features.key != "")


def test_a_view_that_is_not_there_is_refused(features):
    """Counted from 0."""
    with pytest.raises(CacheError, match="There is no view 1: the features have 1"):
        features.view(1)


@pytest.mark.parametrize("make", [lambda f, i: f.subset(i), lambda f, i: as_examples(Subset(f, i.tolist())),
                                  lambda f, i: as_examples(Subset(Subset(f, range(200)), i.tolist()))])  # fmt: skip
def test_a_subset_is_features_too(features, make):
    """With the rows in the order asked for, the same weights and key; whole tensors where the features have them."""
    wanted = torch.tensor([5, 199, 0, 5, 3])
    some = make(features, wanted)
    assert isinstance(some, type(features))
    assert len(some) == 5
    inputs, labels = some.gather(torch.tensor([1, 0, 4]))
    assert torch.equal(inputs["hidden"], expected()[[199, 5, 3]])
    assert torch.equal(labels, tiny_data(200)[1][[199, 5, 3]])
    assert (some.frozen, some.key, some.cut) == (features.frozen, features.key, features.cut)
    assert (some.inputs is None) == (features.inputs is None)
    seen = torch.cat([rows["hidden"] for _, rows, _ in some.batches(2, epoch=1)])
    assert torch.equal(seen.sort(0).values, expected()[wanted].sort(0).values)
    with pytest.raises(IndexError, match="200 examples have no index"):
        features.subset(torch.tensor([200]))


def test_a_part_of_a_random_split_is_features(features):
    """As people make validation data."""
    parts = [as_examples(part) for part in random_split(features, [150, 50])]
    assert [len(part) for part in parts] == [150, 50]
    assert all(part.frozen for part in parts)


def test_gathered_rows_remember_the_weights(features):
    """Also on their way through a copy."""
    inputs, _ = features.gather(torch.arange(3))
    assert inputs.frozen == features.frozen
    assert pickle.loads(pickle.dumps(inputs)).frozen == features.frozen
    assert map_tree(lambda rows: rows + 1, inputs).frozen == features.frozen


def test_a_subset_of_views_has_their_views():
    """Each example keeps its copies."""
    data = TensorDataset(*tiny_data(12))
    every = cache_features(tiny_trunk(), data, views=2, batch_size=4)
    some = every.subset(torch.tensor([7, 2]))
    assert some.views == 2
    for view in range(2):
        rows = some.view(view).gather(torch.arange(2))[0]["hidden"]
        assert torch.equal(rows, every.view(view).gather(torch.tensor([7, 2]))[0]["hidden"])


def test_several_processes_read_a_store_by_blocks_of_their_own(features):
    """Each example belongs to one of them; blocks are rows that lie together."""
    masks = [features.read_by(rank, 3) for rank in range(3)]
    assert torch.equal(torch.stack(masks).sum(0), torch.ones(200, dtype=torch.int64))
    if isinstance(features.rows, StoredRows):
        owner = torch.stack(masks).int().argmax(0)[features._in_storage_order]
        rows = block_rows(features.rows, features.positions[:, 0])
        assert all(len(block.unique()) == 1 for block in owner.split(rows))


def test_features_print_what_they_hold():
    """In a notebook or a debugger."""
    data = TensorDataset(*tiny_data(12))
    assert repr(cache_features(tiny_trunk(), data)) == "<Features of 12 examples: hidden 4, 192 bytes>"
    assert repr(cache_features(tiny_trunk(), data, views=2)).startswith("<Features of 12 examples in 2 views: hidden 4")
