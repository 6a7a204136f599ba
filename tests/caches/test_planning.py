"""Planned parts: whole batches, the same for everybody."""

import numpy as np
import pytest
import torch

from regraft.caches.options import Share
from regraft.caches.planning import beginning_at, part_rows, planned_parts, storage_order
from regraft.errors import CacheError
from trunks import leaf_of


@pytest.mark.parametrize(
    ("shape", "batch_size", "count", "rows"),
    [
        ((50,), 64, 1 << 20, 16384),  # a 64th of the data
        ((1 << 20,), 3, 10_000, 6),  # 32 MiB
        ((1 << 24,), 64, 10_000, 64),  # a batch
        ((50,), 64, 1_200, 64),  # small data: as many parts as there are batches
    ],
)
def test_parts_hold_whole_batches(shape, batch_size, count, rows):
    """At most 32 MiB and a 64th of the data, never less than a batch."""
    assert part_rows([leaf_of("x", shape)], batch_size, count) == rows


def test_data_that_one_builder_reads_through_is_cut_by_bytes_and_rows():
    """A crash loses at most 2,048 rows or a 64th."""
    assert part_rows([leaf_of("x", (50,))], 64, 1_200, is_shared=False) == 2048
    assert part_rows([leaf_of("x", (50,))], 64, 1 << 20, is_shared=False) == 16384


def test_rows_lie_in_random_order_with_the_rest_last():
    """A fixed one: every builder has the same."""
    order = storage_order(43, 8)
    assert torch.equal(order.sort().values, torch.arange(43))
    assert torch.equal(order[40:], torch.arange(40, 43))
    assert not torch.equal(order[:40], torch.arange(40))
    assert torch.equal(order, storage_order(43, 8))


def ids_of(count):
    """An id for each row."""
    return np.random.default_rng(0).integers(0, 256, (count, 16), np.uint8)


@pytest.mark.parametrize("stored", [[], [0], [1, 3]])
def test_the_parts_that_are_missing_are_the_same_whichever_are_stored(stored):
    """A builder that begins later plans what the others have planned."""
    order, ids = storage_order(75, 8), ids_of(75)
    whole = planned_parts(order, ids, full=72, size=16)

    rows = torch.cat([part.rows for number, part in enumerate(whole) if number not in stored])
    later = planned_parts(rows, ids, full=72, size=16)

    assert [part.name for part in later] == [part.name for number, part in enumerate(whole) if number not in stored]
    assert [len(part.rows) for part in whole] == [16, 16, 16, 16, 11]
    assert [(len(rows), size) for rows, size in whole[-1].batches(72, 8, 3)] == [(8, 8), (3, 3)]


def test_builders_begin_at_different_parts():
    """And go round."""
    parts = planned_parts(storage_order(64, 8), ids_of(64), full=64, size=8)
    starts = [parts.index(beginning_at(parts, Share(number, 3))[0]) for number in range(3)]
    assert starts == [0, 2, 5]
    assert set(beginning_at(parts, Share(2, 3))) == set(parts)


def test_a_share_is_one_of_its_count():
    """Counted from 0."""
    with pytest.raises(CacheError, match=r"Share\(2, 2\): the number must be from 0 to count - 1, so at most 1"):
        Share(2, 2)
