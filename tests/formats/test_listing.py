"""What `regraft show` prints."""

import json
from pathlib import Path

import numpy as np
import pytest

from regraft.arrays import ArrayInfo, Checkpoint, Requirement
from regraft.formats.listing import as_table, as_text


@pytest.fixture
def opened():
    """Two arrays, one of them the optimiser's, a fact and a note."""
    infos = {
        "conv/kernel": ArrayInfo((3, 3, 1, 8), "float32", layer_type="Conv2D"),
        "step": ArrayInfo((), "int64", role="counter"),
    }
    facts = (Requirement("bn", "eps", 1e-3),)
    reader = np.zeros
    return Checkpoint(Path("m.h5"), "keras-h5", None, infos, reader, (Path("m.h5"),), facts, ("one thing skipped",))


def test_the_table_has_a_line_for_each_array_fact_and_note(opened):
    """With totals in the heading."""
    assert as_table(opened).splitlines() == [
        "m.h5: keras-h5, layout not recorded in the file, 2 arrays, 73 values, 296 bytes",
        "conv/kernel  3 × 3 × 1 × 8  float32",
        "step         scalar         int64  counter",
        "bn: eps = 0.001",
        "note: one thing skipped",
    ]


def test_json_has_the_same_for_machines(opened):
    """Names, shapes, roles, facts."""
    data = json.loads(as_text(opened))
    assert data["arrays"]["conv/kernel"]["shape"] == [3, 3, 1, 8]
    assert data["requirements"] == [{"layer": "bn", "attribute": "eps", "value": 1e-3}]
    assert data["files"] == ["m.h5"]
