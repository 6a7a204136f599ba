"""The record of a run, as plain data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import SaveError
from regraft.reports.record import (
    CutRecord,
    HistoryRecord,
    LeafRecord,
    NoteRecord,
    PlanRecord,
    PlanRowRecord,
    RunRecord,
    ScoreRecord,
    StageRecord,
    VariantRecord,
)

texts = st.text(max_size=12)
numbers = st.floats(-1e6, 1e6)
rows = st.builds(PlanRowRecord, texts, st.lists(texts, max_size=2).map(tuple), texts, texts, st.just((3, 4)), texts)
LEAVES = (LeafRecord("a", (3,), "float32", 12),)
records = st.builds(
    RunRecord,
    title=texts,
    plan=st.none() | st.builds(PlanRecord, texts, st.lists(rows, max_size=3).map(tuple)),
    cut=st.none()
    | st.builds(CutRecord, st.just((LeafRecord("a", (3,), "float32", 12),)), st.just(12), st.none() | numbers),
    history=st.none()
    | st.builds(
        HistoryRecord, st.lists(numbers, max_size=3).map(tuple), stages=st.just((StageRecord(1, ("a", "b"), 3),))
    ),
    test=st.none() | st.builds(ScoreRecord, numbers, numbers, st.integers(1, 9), numbers, st.just(((1, 2), (3, 4)))),
    seconds=st.dictionaries(texts, numbers, max_size=2),
    notes=st.lists(st.builds(NoteRecord, texts, st.just(("x",))), max_size=2).map(tuple),
    comparison=st.lists(st.builds(VariantRecord, texts, numbers, numbers, st.none() | numbers), max_size=2).map(tuple),
)


@given(records)
def test_a_record_survives_json(record):
    """Tuples come back as tuples, absent parts as None."""
    assert RunRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, "record lacks the field 'title'"),
        ({"title": "a", "titel": "b"}, r"record has an unknown field 'titel'. Did you mean 'title'"),
        ({"title": 3}, "record.title is 3, expected str"),
        ({"title": "a", "plan": {"rows": [{"target": 1}]}}, r"record.plan.rows\[0\].target is 1, expected str"),
    ],
)
def test_another_form_is_refused_with_the_fields_whole_name(data, told):
    """Written by another version, or by hand."""
    with pytest.raises(SaveError, match=told):
        RunRecord.from_dict(data)
