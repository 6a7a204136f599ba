"""The look before building: the canary, the cost, the rounding."""

import time

import pytest
import torch
from torch import nn

from regraft.caches.building import Builder
from regraft.caches.canary import TOLERANCE, check_reused, differences, expected_cost, rounding, tolerance_of
from regraft.caches.rows import Index, StoredRows
from regraft.caches.sampling import Draws
from regraft.errors import CacheError
from regraft.examples import TensorExamples
from regraft.stores.memory import MemoryStore
from trunks import tiny_data, tiny_trunk

EMPTY = Index(torch.empty(0, 16, dtype=torch.uint8).numpy())


class Clock:
    """Shows what it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def go(self, seconds):
        self.now += seconds


def filled(trunk, count=40, stored=40):
    """The draws of a data set, and the rows of a store that holds the first of them."""
    entry, (inputs, labels) = MemoryStore().entry("k", {}), tiny_data(count)
    Builder(trunk, Draws(TensorExamples(inputs[:stored], labels[:stored])), entry, trunk.cut.leaves, batch_size=8,
            precision="float32").build()  # fmt: skip
    return Draws(TensorExamples(inputs, labels)), StoredRows(entry, trunk.cut.leaves)


def test_true_rows_pass(capsys):
    """A few rows are computed, no more."""
    trunk = tiny_trunk()
    draws, rows = filled(trunk)
    trunk.rows = 0
    assert check_reused(trunk, draws, rows, rows.index(), count=4, tolerance=1e-4)
    assert trunk.rows == 4


def test_rows_of_another_computation_are_refused_by_name():
    """Leaf, example, difference."""
    draws, rows = filled(tiny_trunk())
    with pytest.raises(CacheError, match=r"(?s)not those of this trunk.*example \d+, hidden.*Clear the entry"):
        check_reused(lambda x: {"hidden": tiny_trunk()(x)["hidden"] + 1}, draws, rows, rows.index(), count=4,
                     tolerance=1e-4)  # fmt: skip


def test_an_empty_store_has_nothing_to_check():
    """And says so."""
    draws, rows = filled(tiny_trunk())
    assert not check_reused(tiny_trunk(), draws, rows, EMPTY, count=4, tolerance=1e-4)
    assert not check_reused(tiny_trunk(), draws, rows, rows.index(), count=0, tolerance=1e-4)


def test_gaps_must_be_the_same_gaps():
    """A NaN equals a NaN, and nothing else."""
    gap, one = torch.tensor([[torch.nan, 1.0]]), torch.tensor([[2.0, 1.0]])
    assert not differences({"x": gap}, {"x": gap}, torch.tensor([0]), 0.1)
    assert differences({"x": gap}, {"x": one}, torch.tensor([0]), 0.1)


def test_tolerances_add_up():
    """Rounding of storage, of compute, of the device."""
    assert tolerance_of("float32", "float32", "cpu") == TOLERANCE["float32"]
    assert tolerance_of("int8", "bfloat16", "cuda") > tolerance_of("int8", "bfloat16", "cpu") > TOLERANCE["int8"]


def test_the_cost_is_that_of_what_is_missing(monkeypatch):
    """Half of the rows are there: half of the price, of which a slow trunk is all. The clock knows the trunk alone."""
    trunk, clock = tiny_trunk(), Clock()
    draws, rows = filled(trunk, stored=20)
    plain = trunk.module.forward
    trunk.module.forward = lambda x: (clock.go(0.004 * len(x)), plain(x))[1]
    monkeypatch.setattr(time, "perf_counter", clock)

    whole = expected_cost(trunk, draws, EMPTY, batch_size=40, precision="float32")
    half = expected_cost(trunk, draws, rows.index(), batch_size=40, precision="float32")

    assert (whole.count, whole.missing, half.missing, whole.bytes) == (40, 40, 20, 40 * 4 * 4)
    assert whole.trunk_s == pytest.approx(0.004)
    assert half.seconds == pytest.approx(0.5 * whole.seconds)
    assert whole.pays_from == 2


def test_the_bytes_are_those_of_the_precision():
    """Scales of int8 are a few bytes a part."""
    draws, _ = filled(tiny_trunk())
    assert expected_cost(tiny_trunk(), draws, None, batch_size=8, precision="int8").bytes == 40 * 4


def test_rounding_is_told_for_leaves_and_outputs():
    """The head is called in evaluation mode and left in its own."""
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).train()
    trunk, (inputs, _) = tiny_trunk(), tiny_data()

    told = rounding(trunk, trunk, inputs, "bfloat16", lambda features: head.eval()(features["hidden"]))

    assert set(told) == {"hidden", "output"}
    assert 0 < told["hidden"].relative < 4e-3  # bfloat16 keeps 8 bits
    assert 0 < told["output"].relative < 1e-2
    assert rounding(trunk, trunk, inputs, "float32")["hidden"].largest == 0


def test_the_compute_is_part_of_the_difference():
    """Features that were computed in bfloat16 are compared with float32's."""
    trunk, (inputs, _) = tiny_trunk(), tiny_data()
    told = rounding(lambda x: {"hidden": trunk(x)["hidden"] * 1.01}, trunk, inputs, "float32")
    assert told["hidden"].relative == pytest.approx(0.01, rel=1e-3)
