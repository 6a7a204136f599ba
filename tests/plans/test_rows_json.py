"""Rows as JSON: exact both ways, and as older versions wrote them."""

import pytest

from regraft.errors import Advice, PlanError
from regraft.plans.rows import RequirementRow, Setting
from regraft.plans.rows_json import requirement_from_json, requirement_to_json, row_from_json
from regraft.plans.steps import Absent, Activation, CallStep, ModuleStep, Pool

POOL = Pool("max", (3, 3), (2, 2), "same")
SUBJECTS = [
    (Setting("bn", "eps"), 1e-3, 1e-5),
    (Setting("conv", "padding"), ((0, 1), (0, 1)), (1, 1)),
    (ModuleStep("pool", "pool"), POOL, Absent("pool")),
    (ModuleStep("act", "activation"), Activation("relu"), Activation("relu6")),
    (CallStep("block", "avg_pool2d_1"), Absent("pool"), POOL),
    (CallStep("block", "conv.0", 1), Activation("relu"), Absent("activation")),
]


@pytest.mark.parametrize(("subject", "required", "found"), SUBJECTS)
def test_json_keeps_a_requirement(subject, required, found):
    advice = (Advice("adopt", ["x"], "set it"),)
    row = RequirementRow(subject, required, found, "differs", "theirs", "a note", adoptable=True, advice=advice)

    assert requirement_from_json(requirement_to_json(row)) == row


@pytest.mark.parametrize(("subject", "required", "found"), SUBJECTS)
def test_a_row_that_an_older_version_wrote_is_read(subject, required, found):
    """Without a kind: layer, attribute and text, told apart by what they say. Pickles hold the same."""
    expected = RequirementRow(subject, required, found, "adopted", "theirs", "apply_plan sets it", adoptable=True)
    plain = [list(v) if isinstance(v, tuple) else v if isinstance(v, float) else str(v) for v in (required, found)]
    older = {
        "layer": subject.layer, "attribute": subject.attribute, "required": plain[0], "found": plain[1],
        "status": "adopted", "source_layer": "theirs", "note": "apply_plan sets it", "adoptable": True,
    }  # fmt: skip
    unpickled = RequirementRow.__new__(RequirementRow)
    unpickled.__setstate__(older)

    assert requirement_from_json(older) == expected
    assert unpickled == expected


def test_a_row_of_an_unknown_array_is_named():
    data = {"target": "fc.wieght", "sources": [], "status": "exact", "operations": []}

    with pytest.raises(PlanError, match=r"row fc.wieght: the plan's model has no array.*Did you mean 'fc.weight'"):
        row_from_json(data, {"fc.weight": {"shape": [1], "dtype": "float32"}}, {})
