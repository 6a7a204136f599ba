"""A plan is data: JSON keeps it, edits count, two plans can be compared."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from in_memory import arrays_of, checkpoint_of
from regraft.errors import PlanError
from regraft.matching import plan_reuse
from regraft.operations.changes import Cast
from regraft.operations.moves import Transpose
from regraft.plan import CheckpointIdentity, FileIdentity, Plan
from regraft.plans.rows import PROBLEMS, REUSED, RequirementRow, Row, Setting
from test_matching import EPS, Convolutional, keras_checkpoint, net

NAMES = st.text("abc./_0", min_size=1, max_size=8)
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
LEFT = st.sampled_from(["unused", "excluded", "optimizer_slot"])


@st.composite
def plans(draw):
    """Plans with any names and statuses; targets and sources are unique."""
    targets = draw(st.lists(NAMES, unique=True, max_size=4))
    sources = draw(st.lists(NAMES, unique=True, max_size=4))
    status = st.sampled_from(sorted(REUSED | PROBLEMS | {"kept_init"}))
    operations = st.lists(st.sampled_from([Cast("float32"), Transpose((1, 0), ("in", "out"))]), max_size=2).map(tuple)
    rows = [
        Row(name, (), draw(status), draw(operations), draw(SHAPES), "float32", note=draw(st.text(max_size=5)))
        for name in targets
    ]
    rows += [Row(None, (name,), draw(LEFT), source_shapes=(draw(SHAPES),), source_dtypes=("int8",)) for name in sources]
    value = st.one_of(st.floats(allow_nan=False), st.text(max_size=3), st.tuples(st.integers()), st.booleans())
    settings = [
        RequirementRow(Setting(draw(NAMES), "eps"), draw(value), draw(value), draw(st.sampled_from(["met", "differs"])))
    ]
    identity = CheckpointIdentity("a b.ckpt", "npz", None, (FileIdentity("a b.ckpt", 7, "ab"),))
    return Plan(identity, draw(st.sampled_from([None, "torch"])), tuple(rows), tuple(settings), ("told",))


@given(plans())
def test_json_keeps_a_plan(plan):
    assert Plan.from_json(plan.to_json()) == plan


@given(plans())
def test_a_plan_does_not_differ_from_itself(plan):
    assert plan.diff(Plan.from_json(plan.to_json())) == ()


def test_json_has_one_line_for_each_row():
    """So that a person can edit it and a line-by-line comparison tells what changed."""
    plan = plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4))

    lines = [line for line in plan.to_json().splitlines() if line.strip().startswith('{"target"')]

    assert len(lines) == 2
    assert all(json.loads(line.strip().rstrip(","))["status"] == "exact" for line in lines)


def test_two_plans_tell_what_differs():
    checkpoint = checkpoint_of(arrays_of(net(3, 4, 2)))
    ours, theirs = plan_reuse(checkpoint, net(3, 4, 2)), plan_reuse(checkpoint, net(3, 4, 2), fresh="hidden2")

    assert ours.diff(theirs) == (
        "~ hidden2.weight: exact, from hidden2.weight, (2, 4) float32 -> kept_init, (2, 4) float32",
        "~ hidden2.bias: exact, from hidden2.bias, (2,) float32 -> kept_init, (2,) float32",
        "+ source hidden2.weight: excluded, ((2, 4),)",
        "+ source hidden2.bias: excluded, ((2,),)",
    )


def test_a_setting_that_was_accepted_is_a_difference():
    ours = plan_reuse(keras_checkpoint(EPS), Convolutional())
    theirs = plan_reuse(keras_checkpoint(EPS), Convolutional(), accept=r"bn\.eps")

    assert ours.diff(theirs) == ("~ setting bn.eps: differs, 0.001 (module: 1e-05) -> accepted, 0.001 (module: 1e-05)",)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"exact"', '"exakt"', "row hidden1.weight: there is no status 'exakt'. Statuses: exact, renamed"),
        ('"sources": ["hidden1.bias"]', '"sources": ["hiden1.bias"]', r"no array 'hiden1\.bias'. Did you mean"),
        ('"target": "hidden1.bias"', '"target": "hidden.bias"', "the plan's model has no array 'hidden.bias'"),
        ('"operations": []', '"operations": [{"do": "Turn"}]', "row hidden1.weight: unknown operation 'Turn'"),
        ('"regraft_plan": 1', '"regraft_plan": 9', "not a plan of version 1"),
        ('"rows"', '"lines"', "damaged or was edited"),
        ("{", "", "not JSON"),
    ],
)  # fmt: skip
def test_an_edit_that_makes_no_sense_is_told_with_its_row(old, new, told):
    text = plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4)).to_json()

    with pytest.raises(PlanError, match=told):
        Plan.from_json(text.replace(old, new, 1))


def test_a_setting_with_an_unknown_status_is_told():
    text = plan_reuse(keras_checkpoint(EPS), Convolutional()).to_json()

    with pytest.raises(PlanError, match=r"setting bn.eps: there is no status 'wrong'"):
        Plan.from_json(text.replace('"differs"', '"wrong"'))


def test_a_plan_without_problems_passes_its_check():
    plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4)).check()


def test_a_check_tells_all_problems_at_once():
    source = arrays_of(Convolutional(channels=1, classes=7))
    del source["bn.weight"]
    plan = plan_reuse(checkpoint_of({**source, "bn.gain": np.ones(5, np.float32)}), Convolutional())

    with pytest.raises(PlanError, match=r"(?s)5 of 10 rows.*conv.weight.*bn.weight.*fc.weight.*fc.bias.*bn.gain"):
        plan.check()


def test_a_row_edited_into_a_problem_counts():
    plan = plan_reuse(checkpoint_of(arrays_of(net(3, 4))), net(3, 4))
    edited = replace(plan, rows=(replace(plan.rows[0], status="ambiguous"), plan.rows[1]))

    assert [row.name for row in edited.problems] == ["hidden1.weight"]
