"""The canary: stored rows are computed again."""

import pytest
import torch

from regraft.caches.canary import TOLERANCE, check_reused, differences, tolerance_of
from regraft.caches.options import Engine, Options
from regraft.caches.running import Runner
from regraft.errors import CacheError
from trunks import EMPTY, HandTrunk, filled, tiny_trunk


def test_true_rows_pass():
    """A few rows are computed, no more."""
    trunk = tiny_trunk()
    samples, rows = filled(trunk)
    trunk.rows = 0
    assert check_reused(Runner(trunk), samples, rows, rows.index(), Options())
    assert trunk.rows == 4


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


def test_gaps_must_be_the_same_gaps():
    """A NaN equals a NaN, and nothing else."""
    gap, one = torch.tensor([[torch.nan, 1.0]]), torch.tensor([[2.0, 1.0]])
    assert not differences({"x": gap}, {"x": gap}, torch.tensor([0]), 0.1)
    assert differences({"x": gap}, {"x": one}, torch.tensor([0]), 0.1)


def test_tolerances_add_up():
    """Rounding of storage, of compute, of the device."""
    assert tolerance_of("float32", "float32", "cpu") == TOLERANCE["float32"]
    assert tolerance_of("int8", "bfloat16", "cuda") > tolerance_of("int8", "bfloat16", "cpu") > TOLERANCE["int8"]
