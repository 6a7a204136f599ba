"""The sentence before building."""

import time
from dataclasses import replace

import pytest

from regraft.caches.costs import Cost, expected_cost
from regraft.caches.options import Options
from regraft.caches.running import Runner
from trunks import EMPTY, filled, tiny_trunk

DEAR = Cost(
    count=1000,
    views=1,
    missing=1000,
    fetched=1000,
    bytes=2_048_000,
    fetch_s=0.004,
    trunk_s=0.01,
    write_s=0.0005,
    read_s=0.0001,
)


def test_a_dear_trunk_pays_soon():
    """From the second epoch."""
    assert DEAR.pays_from == 2
    assert not DEAR.pays(1)
    assert DEAR.pays(2)
    assert str(DEAR) == "Caching 1,000 examples takes about 14.5 s and 2.0 MB; it pays from 2 epochs on."


def test_a_cheap_trunk_never_pays():
    """And the sentence says so."""
    cheap = Cost(
        count=10, views=1, missing=10, fetched=10, bytes=100, fetch_s=0.0, trunk_s=1e-6, write_s=1e-5, read_s=1e-6
    )
    assert cheap.pays_from is None
    assert not cheap.pays(10**9)
    assert "does not pay" in str(cheap)


@pytest.mark.parametrize("epochs", range(1, 30))
def test_the_break_even_is_that_of_the_inequality(epochs):
    """(E - V)(decode + prefix) > E·read + V·write."""
    cost = Cost(count=1, views=4, missing=4, fetched=4, bytes=1, fetch_s=3.0, trunk_s=2.0, write_s=1.0, read_s=0.7)
    assert cost.pays(epochs) == ((epochs - 4) * 5 > epochs * 0.7 + 4 * 1)


def test_a_half_filled_store_pays_earlier():
    """Only what is missing is computed; the sentence says how much that is."""
    half = replace(DEAR, missing=100, fetched=100)
    assert half.pays_from == 1
    assert "(100 rows are missing)" in str(half)
    assert str(half).endswith("it pays from 1 epoch on.")


class Clock:
    """Shows what it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def go(self, seconds):
        self.now += seconds


def test_the_cost_is_that_of_what_is_missing(monkeypatch):
    """Half of the rows are there: half of the price, of which a slow trunk is all. The clock knows the trunk alone."""
    trunk, clock = tiny_trunk(), Clock()
    samples, rows = filled(trunk, stored=20)
    plain = trunk.module.forward
    trunk.module.forward = lambda x: (clock.go(0.004 * len(x)), plain(x))[1]
    monkeypatch.setattr(time, "perf_counter", clock)

    whole = expected_cost(Runner(trunk), samples, EMPTY, Options(batch_size=40))
    half = expected_cost(Runner(trunk), samples, rows.index(), Options(batch_size=40))

    assert (whole.count, whole.missing, half.missing, whole.bytes) == (40, 40, 20, 40 * 4 * 4)
    assert whole.trunk_s == pytest.approx(0.004)
    assert half.seconds == pytest.approx(0.5 * whole.seconds)
    assert whole.pays_from == 2


def test_the_bytes_are_those_of_the_precision():
    """Scales of int8 are a few bytes a part."""
    samples, _ = filled(tiny_trunk())
    assert expected_cost(Runner(tiny_trunk()), samples, None, Options(batch_size=8, precision="int8")).bytes == 40 * 4
