"""The canary: stored rows are computed again."""

import pytest
import torch
from torch import nn

from regraft.caches.canary import check_reused, choose_rows
from regraft.caches.options import CANARIES, Engine, Options
from regraft.caches.running import Runner
from regraft.caching import cache_features
from regraft.errors import CacheError
from regraft.stores.memory import MemoryStore
from trunks import EMPTY, HandTrunk, filled, tiny_trunk


def test_true_rows_pass():
    """A few rows are computed, no more."""
    trunk = tiny_trunk()
    samples, rows = filled(trunk)
    trunk.rows = 0
    assert check_reused(Runner(trunk), samples, rows, rows.index(), Options())
    assert trunk.rows == CANARIES


def test_rows_of_another_computation_are_refused_by_name():
    """Leaf, example, difference."""
    samples, rows = filled(tiny_trunk())
    shifted = HandTrunk(tiny_trunk().module, (4,))
    shifted.module[2].bias += 1
    with pytest.raises(CacheError, match=r"(?s)not those of this trunk.*example \d+, hidden.*Clear the entry"):
        check_reused(Runner(shifted), samples, rows, rows.index(), Options())


def test_an_empty_store_has_nothing_to_check():
    """And says so."""
    samples, rows = filled(tiny_trunk())
    assert not check_reused(Runner(tiny_trunk()), samples, rows, EMPTY, Options())
    assert not check_reused(Runner(tiny_trunk()), samples, rows, rows.index(), Options(engine=Engine(canaries=0)))


def test_the_extreme_rows_are_looked_at():
    """Half of the rows at random, then the largest and the longest of a sample."""
    trunk = tiny_trunk()
    _, rows = filled(trunk)
    positions = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    sizes = rows.gather(positions)["hidden"].abs().amax(1)
    chosen = choose_rows(rows, positions, 8)
    assert chosen[:4].tolist() == [0, 1, 2, 3]
    assert int(sizes.argmax()) in chosen.tolist()
    assert len(chosen) == 8
    assert sorted(choose_rows(rows, positions[:3], 8).tolist()) == [0, 1, 2]


def test_a_bound_that_changes_one_row_of_two_hundred_is_mostly_seen():
    """The row with the largest values is always among those that are computed again."""
    trunk = HandTrunk(nn.Hardtanh(-10, 10), (6,))
    inputs = torch.rand(200, 6, generator=torch.Generator().manual_seed(0))
    inputs[77] = 9
    store = MemoryStore()
    cache_features(trunk, (inputs, torch.zeros(200)), store, data_id="bounded")
    trunk.module.max_val = trunk.module.min_val * -0.5
    trunk.describe = lambda: {"module": "Hardtanh(min_val=-10, max_val=10)"}
    with pytest.raises(CacheError, match="example 77, hidden"):
        cache_features(trunk, (inputs, torch.zeros(200)), store, data_id="bounded")
