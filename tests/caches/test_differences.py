"""How far computed values may be apart."""

import pytest
import torch

from regraft.caches.differences import (
    TOLERANCE,
    allowed_differences,
    differences,
    filling_problem,
    tolerance_of,
)
from regraft.caches.ragged import encode_column
from regraft.caches.rows import StoredRows
from regraft.stores.memory import MemoryStore
from regraft.tensors.fingerprints import named_ids
from trunks import leaf_of


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


FILLED = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 0]])
SHAPES = [((4,),), ((2,),)]


@pytest.mark.parametrize(
    ("forward", "depends"),
    [
        (lambda x: x.mean(1, keepdim=True), True),
        (lambda x: x.sum(1, keepdim=True), False),
        (lambda x: {"tokens": x * 2, "pooled": x.amax(1)}, False),
        (lambda x: {"tokens": x * 2, "pooled": x.mean(1)}, True),
        (lambda x: (x.flip(1), x.sum()), True),
        (lambda x: x.sum(), False),  # no row for each example
    ],
)
def test_what_depends_on_the_filling_is_found(forward, depends):
    """The shortest example is computed alone; the values of the filling itself are not compared."""
    problem = filling_problem(forward, FILLED, forward(FILLED), SHAPES, TOLERANCE)
    assert bool(problem) == depends
    assert ("in the batch and alone differ by" in problem) == depends


def test_examples_of_one_length_are_filled_by_nothing():
    """And the model is not called."""
    assert filling_problem(lambda x: 1 / 0, FILLED, FILLED, [((4,),)] * 2, TOLERANCE) == ""
