"""The canary: stored rows are computed again."""

import pytest
import torch
from torch import nn

from regraft.caches.canary import (
    TOLERANCE,
    allowed_differences,
    check_reused,
    choose_rows,
    differences,
    tolerance_of,
)
from regraft.caches.options import CANARIES, Engine, Options
from regraft.caches.ragged import encode_column
from regraft.caches.rows import StoredRows
from regraft.caches.running import Runner
from regraft.caching import cache_features
from regraft.errors import CacheError
from regraft.stores.memory import MemoryStore
from regraft.tensors.fingerprints import named_ids
from trunks import EMPTY, HandTrunk, filled, leaf_of, tiny_trunk


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


def problems_of(stored, fresh, precision="float32", steps=None):
    """The sentences on two batches of rows."""
    allowed = allowed_differences(fresh, tolerance_of("float32", "cpu"), precision, steps)
    return differences("x", stored, fresh, allowed, torch.arange(len(fresh)))


@pytest.mark.parametrize("gap", [torch.nan, torch.inf, -torch.inf])
def test_gaps_must_be_the_same_gaps(gap):
    """A NaN equals a NaN, an infinity the same infinity, and nothing else."""
    rows, other = torch.tensor([[gap, 1.0]]), torch.tensor([[2.0, 1.0]])
    assert not problems_of(rows, rows)
    assert problems_of(rows, other)
    assert problems_of(other, rows)
    if gap == torch.inf:
        assert problems_of(rows, -rows)


@pytest.mark.parametrize("extreme", [1e5, torch.inf, torch.nan])
@pytest.mark.parametrize("where", [(1, 3), (0, 3)])
def test_one_extreme_value_hides_no_error(extreme, where):
    """In the same row, or in another one of the batch."""
    fresh = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    fresh[where] = extreme
    stored = fresh.clone()
    assert not problems_of(stored, fresh)
    stored[1, 7] += 0.01
    assert [line.split(":")[0] for line in problems_of(stored, fresh)] == ["  example 1, x"]


def test_a_small_row_is_measured_by_its_own_size():
    """An error that is large in it is small beside the other rows."""
    fresh = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    fresh[2] *= 0.01
    stored = fresh.clone()
    stored[2, 7] += 1e-4
    assert problems_of(stored, fresh)


def test_what_another_batch_size_moves_passes():
    """1e-5 of the largest value, in every value; and noise in a row of zeros beside others."""
    generator = torch.Generator().manual_seed(0)
    fresh = torch.randn(4, 512, generator=generator).relu()
    fresh[3] = 0
    noise = (torch.rand(4, 512, generator=generator) - 0.5) * 2e-5 * fresh.max()
    noise[3] *= 1e-3
    assert not problems_of(fresh + noise, fresh)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "int8"])
@pytest.mark.parametrize("shape", [(6, 8), (6, 5, 8), (6, 8, 3, 3)])
def test_rounding_of_the_storage_passes_and_an_error_does_not(precision, shape):
    """Also beside a row that is a thousand times larger."""
    fresh = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    fresh[0] *= 1000
    entry = MemoryStore().entry("k", {})
    entry.commit("p", named_ids("abcdef"), encode_column("x", fresh, precision))
    rows = StoredRows(entry, [leaf_of("x", shape[1:])])
    stored, steps = rows.gather(torch.arange(6))["x"], rows.steps(torch.arange(6)).get("x")
    assert not problems_of(stored, fresh, precision, steps)
    stored[4].view(-1)[3] += 0.1
    assert [line.split(":")[0] for line in problems_of(stored, fresh, precision, steps)] == ["  example 4, x"]


def test_tolerances_add_up():
    """Of compute, of the device."""
    assert tolerance_of("float32", "cpu") == TOLERANCE
    assert tolerance_of("bfloat16", "cuda") > tolerance_of("bfloat16", "cpu") > TOLERANCE


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
