"""A plan of any size fits a screen, and problems are never folded away while there is room."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from in_memory import checkpoint_of
from regraft.errors import PlanError
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

    assert re.search(r"! +differs +bn.eps +0.001 \(module: 1e-05\) +Set model.bn.eps = 0.001.", str(plan))


def test_the_table_tells_what_to_do_about_arrays_without_a_source():
    """With a pattern for exactly them: `fresh` can be pasted."""
    model = deep(2)
    source = {name: array for name, array in source_of(model).items() if not name.startswith(("blocks.1.0", "head"))}

    table = str(plan_reuse(checkpoint_of(source), model))

    assert (
        "\nmissing: blocks.1.0.weight, blocks.1.0.bias, head.weight and 1 more\n"
        "  no array in the checkpoint matches this one\n"
        "  Another name in the checkpoint can be mapped with a rename rule (docs/how-to/rename.md).\n"
        '  Pass fresh=["blocks.1.0", "head"] to keep the initial weights.\n'
    ) in table


def test_the_table_tells_what_to_do_about_another_shape():
    """All lines of it, where its own line shows the first only."""
    model = deep(1)
    source = source_of(model)
    source["head.weight"], source["head.bias"] = np.zeros((7, 2), np.float32), np.zeros(7, np.float32)

    table = str(plan_reuse(checkpoint_of(source), model))

    assert "\nshape_mismatch: head.weight, head.bias\n  The source has the shape (7, 2) after all operations" in table
    assert table.count("The number of outputs differs, as for other classes.") == 1
    assert table.count('Pass fresh=["head"] to keep the initial weights.') == 1


def test_where_most_names_differ_matching_by_structure_is_named():
    """With when to use it; not where it was used, nor where few names are missing."""
    model, source = deep(2), {"other.weight": np.zeros((2, 2), np.float32)}

    by_names, by_structure = (
        str(plan_reuse(checkpoint_of(source), model, match=way)) for way in ("names", "structure")
    )

    assert 'Pass match="structure" to match the layers by structure.' in by_names
    assert "match=" not in by_structure


def test_advice_is_spelled_as_the_reader_types_it():
    """An advice that a door does not have is left out."""
    plan = plan_reuse(checkpoint_of({}), deep(1))

    assert "\n  --fresh blocks" in plan.table(spell=lambda advice: f"--fresh {advice.value[0]}")
    assert "fresh" not in plan.table(spell=lambda advice: "").partition("\n\n")[2]


def test_an_error_groups_problems_as_the_table_does():
    """Four hundred arrays of other shapes, or without a source, are a screen and not a thousand lines."""
    model = deep(100)
    wide = {name: np.zeros((3, *array.shape[1:]), np.float32) for name, array in source_of(model).items()}
    settings = keras_checkpoint(EPS)
    plans = [plan_reuse(checkpoint_of(source), model) for source in ({}, wide)]
    plans.append(plan_reuse(settings, Convolutional()))

    texts = [_refusal(plan) for plan in plans]

    assert all(len(text.splitlines()) <= 40 for text in texts)
    assert "\n  and 396 more like them: blocks.1.1.weight" in texts[0]
    assert texts[1].startswith("402 of 402 rows of the plan are problems")
    assert "  target  blocks.0.0.weight  expected (2, 2) float32" in texts[1]
    assert re.search(r"and \d+ more like it: blocks\.\d+", texts[1])


def _refusal(plan):
    with pytest.raises(PlanError, match="nothing was changed") as caught:
        plan.check()
    return str(caught.value)
