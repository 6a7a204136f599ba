"""An epoch from a store: whole, well shuffled, read ahead, in bounded memory."""

import threading

import pytest
import torch

from regraft.caches import streaming as streams
from regraft.caches.ragged import encode_column
from regraft.caches.rows import StoredRows
from regraft.caches.streaming import group_bytes, groups_of, shuffled_groups, streamed
from regraft.stores.folder import FolderStore
from regraft.tensors.fingerprints import named_ids
from regraft.tensors.ragged import column_of
from trunks import leaf_of

COUNT = 60
EVEN = torch.arange(COUNT * 4.0).view(COUNT, 4)
RAGGED = [torch.full((1 + number % 7,), float(number)) for number in range(COUNT)]


@pytest.fixture(params=["float32", "int8"])
def rows(request, tmp_path):
    """Sixty rows of two leaves in four parts, one of them with rows of one length only."""
    entry = FolderStore(tmp_path).entry("k", {})
    for name, numbers in (("a", range(20)), ("b", range(20, 21)), ("c", range(21, 50)), ("d", range(50, COUNT))):
        tensors = encode_column("even", EVEN[list(numbers)], request.param)
        tensors |= encode_column("ragged", column_of([RAGGED[number] for number in numbers]), request.param)
        entry.commit(name, named_ids(map(str, numbers)), tensors)
    return StoredRows(entry, [leaf_of("even", (4,)), leaf_of("ragged", (5,), varying=(0,))])


@pytest.fixture
def small_groups(monkeypatch):
    """Two hundred bytes together, so that sixty rows are many groups."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 200)
    monkeypatch.setattr(streams, "GROUP_BYTES", 200)
    monkeypatch.setattr(streams, "BLOCKS", 4)


def batch_of(order):
    """What a batch in this order holds."""
    longest = max(len(RAGGED[number]) for number in order)
    ragged = torch.stack([torch.nn.functional.pad(RAGGED[n], (0, longest - len(RAGGED[n]))) for n in order])
    return EVEN[order], ragged


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_every_row_comes_once_in_the_order_given(rows, small_groups, batch_size):
    """Batches that lie in several groups are put together; each is as long as its longest row."""
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    groups, batches = order.split(groups_of(rows, order)), order.split(batch_size)

    got = list(streamed(rows, groups, [len(batch) for batch in batches], lambda some: some))

    assert len(groups) > 5
    assert len(got) == len(batches)
    for batch, leaves in zip(batches, got, strict=True):
        even, ragged = batch_of(batch.tolist())
        assert torch.allclose(leaves["even"], even, atol=240 / 254)  # half a step of int8
        assert leaves["ragged"].shape == ragged.shape
        assert torch.allclose(leaves["ragged"], ragged, atol=60 / 254)


def test_a_row_asked_for_twice_is_given_twice(rows, small_groups):
    """Equal inputs share a stored row."""
    groups = (torch.tensor([3, 9, 3]), torch.tensor([3]))
    (batch,) = streamed(rows, groups, [4], lambda some: some)
    assert torch.allclose(batch["even"], EVEN[[3, 9, 3, 3]], atol=240 / 254)


def test_groups_stay_within_their_bytes(rows, small_groups):
    """By each row's own size."""
    everything = torch.arange(COUNT)
    sizes = 4 * 4 + 4 * torch.tensor([len(row) for row in RAGGED])
    assert torch.equal(rows.row_bytes(everything), sizes)
    for groups in (everything.split(groups_of(rows, everything)), shuffled_groups(rows, everything, everything, 5)):
        assert torch.equal(torch.cat(list(groups)).sort().values, everything)
        assert max(int(sizes[group].sum()) for group in groups) <= 200


def test_a_row_larger_than_a_group_is_a_group(rows, monkeypatch):
    """One at least."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1)
    monkeypatch.setattr(streams, "GROUP_BYTES", 1)
    assert groups_of(rows, torch.arange(COUNT)) == [1] * COUNT


def test_consecutive_epochs_have_nothing_in_common(rows, small_groups):
    """The rank correlation is that of chance."""
    everything = torch.arange(COUNT)
    ranks = [torch.cat(shuffled_groups(rows, everything, everything, seed)).argsort().double() for seed in range(40)]
    found = torch.corrcoef(torch.stack(ranks)).triu(1)
    assert found.abs().sum() / (40 * 39 / 2) < 0.2  # 4 rows a block: √(2/π) / √15 = 0.21 were blocks not shuffled


def test_the_next_group_is_read_while_one_is_used(rows, small_groups, monkeypatch):
    """By another thread."""
    readers, second, read = [], threading.Event(), StoredRows.read

    def noted(self, *given):
        readers.append(threading.current_thread().name)
        if len(readers) == 2:
            second.set()
        return read(self, *given)

    monkeypatch.setattr(StoredRows, "read", noted)
    order = torch.arange(COUNT)
    batches = streamed(rows, order.split(groups_of(rows, order)), [4] * 15, lambda some: some)

    next(batches)
    assert second.wait(600)

    assert len(readers) == 2
    assert all(name.startswith("regraft-features") for name in readers)
    batches.close()


def test_the_memory_that_is_used_follows_what_is_allowed(rows):
    """A quarter for a group, of which there are two; never less than a block."""
    rows.memory_bytes = 32 << 20
    assert group_bytes(rows) == 8 << 20
    rows.memory_bytes = 0
    assert group_bytes(rows) == streams.BLOCK_BYTES
