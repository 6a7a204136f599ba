"""Rows of an advice."""

import pytest
import torch

from regraft.depths.rows import DepthRow, Measured, best_of, rows_of


def empty(name):
    return DepthRow(name, "layer", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False, 100, 0.5, 8)


def test_differences_are_paired_and_the_smallest_squared_error_is_best():
    """Not the best score; an interval of 2.1 standard errors around the mean difference."""
    scores = torch.tensor([1.0, 1.0, 0.0, 1.0] * 25, dtype=torch.float64)
    worse = scores.clone()
    worse[:30] = 0
    measured = [Measured(scores, 0.5), Measured(worse, 0.4), Measured(worse, 0.6)]
    assert best_of(measured) == 1

    rows = rows_of([empty("a"), empty("b"), empty("c")], measured, variance=0.8)

    assert [row.score for row in rows] == pytest.approx([0.75, 0.52, 0.52])
    assert [row.explained for row in rows] == pytest.approx([0.375, 0.5, 0.25])
    difference = scores - worse
    assert rows[0].difference == pytest.approx(0.23)
    assert rows[0].low == pytest.approx(0.23 - 2.1 * float(difference.std()) / 10)
    assert rows[0].is_tied
    assert (rows[1].difference, rows[1].is_tied) == (0, False)
    assert rows[2].low < 0 < rows[2].high  # equal in each example, and still in doubt
    assert rows[1].interval_text == ""
    assert rows[2].interval_text == "+0.0 [-1.1, +1.1] tied"
