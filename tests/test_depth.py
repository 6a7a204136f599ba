"""The judge of the depth benchmark: regret, coverage and controls by hand."""

import pytest
from depth_judging import (
    best_is_tied,
    cells_of,
    coverage,
    deepest_tied,
    explained,
    learnt_elsewhere,
    p90,
    regrets,
    smallest,
)

NAMES = ("input", "a", "b", "all")


def row(name, draw, truth, error, score=0.5, source="s", right="1100"):
    return {
        "source": source, "family": "mlp", "target": "t", "n": 5, "control": False, "draw": draw, "name": name,
        "truth": truth, "error": error, "alone_error": error, "score": score, "right": right,
    }  # fmt: skip


def rows(source="s", best="a"):
    """Three draws in which `b` has the smaller error and `best` the better truth."""
    truths = {"input": 0.3, "a": 0.6, "b": 0.5, "all": 0.7} | {best: 0.65}
    errors = {"input": 0.9, "a": 0.5, "b": 0.4, "all": 0.3}
    return [row(name, draw, truths[name], errors[name], source=source) for draw in range(3) for name in NAMES]


def test_regret_is_what_the_pick_loses_against_the_best_measured():
    """In points; below 0 where the pick is better than any of these."""
    (cell,) = cells_of(rows())
    assert cell.cuts == ["a", "b"]
    assert regrets([cell], smallest("error"), []) == [pytest.approx(15)]
    assert regrets([cell], smallest("error", "all"), []) == [pytest.approx(-5)]
    assert explained(cell.draws[0]) == pytest.approx(0.7)


def test_a_constant_is_learnt_on_other_sources_only():
    """The first cut is best on one source and the last on the other."""
    cells = cells_of([*rows("one", best="a"), *rows("two", best="b")])
    assert [regrets([cell], learnt_elsewhere(cells), []) for cell in cells] == [[pytest.approx(15)], [pytest.approx(5)]]


def test_ties_and_coverage_count_the_standard_errors():
    """Equal answers leave half an example's doubt."""
    (cell,) = cells_of(rows())
    assert deepest_tied(cell, cell.draws[0]) == "b"
    assert coverage([cell], 2.1) == (1.0, 3)
    assert coverage([cell], 0.1) == (0.0, 3)
    assert best_is_tied([cell]) == 1


def test_nine_of_ten_do_not_exceed_p90():
    """Of ten values the largest."""
    assert p90(list(range(20))) == 18
