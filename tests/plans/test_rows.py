"""A row says whether it is written, whether it stops the plan, and what to do about it."""

from typing import get_args

from regraft.operations.moves import Transpose
from regraft.plans.rows import PROBLEMS, REUSED, RequirementRow, Row, Setting, Status


def test_a_status_is_reused_or_a_problem_or_neither_never_both():
    assert not REUSED & PROBLEMS
    assert set(get_args(Status)) >= REUSED | PROBLEMS


def test_a_problem_shows_both_sides_and_what_was_done():
    row = Row("fc.weight", ("fc/kernel",), "shape_mismatch", (Transpose((1, 0), ("in", "out")),), (5, 3), "float32",
              ((4, 5),), ("float32",), note="first line\nsecond line")  # fmt: skip

    assert row.problem().splitlines() == [
        "  target  fc.weight  expected (5, 3) float32",
        "  source  fc/kernel  got      (4, 5) float32 before (in, out) -> (out, in)",
        "  shape_mismatch: first line",
        "  second line",
    ]


def test_a_source_that_fills_nothing_is_named_by_itself():
    assert Row(None, ("a", "b"), "unused").name == "a, b"


def test_a_setting_is_named_by_layer_and_attribute():
    row = RequirementRow(Setting("bn", "eps"), 1e-3, 1e-5, "differs", "batch_norm", "Set it.")

    assert row.name == "bn.eps"
    assert row.is_problem
    assert row.problem() == "  setting bn.eps  expected 0.001, got 1e-05  (source layer batch_norm)\n  Set it."
