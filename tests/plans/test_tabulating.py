"""A plan of any size fits a screen, and problems are never folded away while there is room."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from in_memory import checkpoint_of
from regraft.matching import plan_reuse
from test_matching import EPS, Convolutional, keras_checkpoint


def deep(blocks, width=2):
    """A model of `blocks` numbered blocks with two layers each."""
    block = lambda: nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))  # noqa: E731
    return nn.ModuleDict({"blocks": nn.Sequential(*[block() for _ in range(blocks)]), "head": nn.Linear(width, 2)})


def source_of(model):
    return {name: np.zeros(tuple(tensor.shape), np.float32) for name, tensor in model.state_dict().items()}


def test_four_hundred_arrays_fit_a_screen():
    model = deep(100)
    plan = plan_reuse(checkpoint_of(source_of(model)), model)

    assert len(plan.rows) == 402
    assert len(str(plan).splitlines()) <= 45
    assert max(map(len, str(plan).splitlines())) <= 120


def test_all_shows_every_row():
    model = deep(100)
    plan = plan_reuse(checkpoint_of(source_of(model)), model)

    table = plan.table(all=True)

    assert all(re.search(rf"{re.escape(row.target)} ", table) for row in plan.rows)


@settings(max_examples=8)
@given(st.integers(0, 99))
def test_one_problem_among_four_hundred_is_seen(block):
    model = deep(100)
    source = source_of(model)
    source[f"blocks.{block}.0.weight"] = np.zeros((3, 2), np.float32)

    table = str(plan_reuse(checkpoint_of(source), model))

    (line,) = [line for line in table.splitlines() if line.startswith("!")]
    assert f"blocks.{block}.0.weight" in line
    assert "1 problem\n" in table


def test_hundreds_of_problems_are_folded_and_counted():
    model = deep(100)
    table = str(plan_reuse(checkpoint_of({"other": np.zeros(3, np.float32)}), model))

    assert len(table.splitlines()) <= 45
    assert re.search(r"! +missing +blocks\.… +400 arrays", table)


def test_the_heading_tells_what_stays_in_the_checkpoint():
    model = deep(1)
    roles = {"step": "counter"}
    source = {**source_of(model), "step": np.array(1), "rest": np.ones(1, np.float32)}

    heading = plan_reuse(checkpoint_of(source, roles=roles), model, fresh="head").heading()

    assert heading == (
        "4 reused · 2 fresh · 0 problems   (in the checkpoint: 1 unused, 2 excluded, 1 for training only)"
    )


def test_settings_that_are_met_are_shown_only_on_request():
    model = Convolutional()
    model.bn.eps = 1e-3
    plan = plan_reuse(keras_checkpoint(EPS), model)

    assert "bn.eps" not in str(plan)
    assert re.search(r"met +bn.eps +0.001", plan.table(all=True))


def test_a_problem_shows_the_first_line_of_what_to_do():
    plan = plan_reuse(keras_checkpoint(EPS), Convolutional())

    assert re.search(
        r"! +differs +bn.eps +0.001 \(module: 1e-05\) +Set it in the model: model.bn.eps = 0.001", str(plan)
    )
