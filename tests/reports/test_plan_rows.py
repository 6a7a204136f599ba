"""The plan's rows in groups that fit a page."""

import pytest

from regraft.plans.rows import Row
from regraft.reports.plan_rows import GROUP_ROWS, MOST_GROUPS, OPEN_ROWS, RowGroup, group_rows, row_kind, row_shape


def row(name, status="exact", **more):
    """A row of one array of the model."""
    return Row(name, (f"their/{name}",), status, target_shape=(3, 4), **more)


@pytest.mark.parametrize(
    ("status", "kind"),
    [("exact", "reused"), ("adapted", "reused"), ("kept_init", "fresh"), ("excluded", "left"), ("missing", "problem")],
)
def test_each_status_has_a_meaning_for_the_reader(status, kind):
    """And a colour."""
    assert row_kind(row("a", status)) == kind


def test_an_array_that_fills_nothing_shows_its_own_shape():
    """The model has none for it."""
    assert row_shape(Row(None, ("a",), "unused", source_shapes=((2, 5),))) == (2, 5)
    assert row_shape(row("a")) == (3, 4)
    assert row_shape(Row("a", (), "missing")) == ()


def test_a_short_plan_is_one_open_table():
    """Nobody folds 24 lines."""
    (group,) = group_rows([row(f"layer.{index}") for index in range(OPEN_ROWS)])
    assert (group.name, len(group.rows)) == ("", OPEN_ROWS)
    assert group_rows([]) == []


def test_a_long_plan_is_grouped_by_block_and_a_long_block_by_its_parts():
    """In the model's order; what stays in the checkpoint comes last."""
    names = [f"stem.{index}" for index in range(4)]
    names += [f"layer.{block}.{index}" for block in range(2) for index in range(GROUP_ROWS)]
    groups = group_rows([*map(row, names), Row(None, ("x",), "unused")])
    assert [(group.name, len(group.rows)) for group in groups] == [
        ("stem", 4),
        ("layer.0", GROUP_ROWS),
        ("layer.1", GROUP_ROWS),
        ("Left in the checkpoint", 1),
    ]


def test_many_small_blocks_are_joined():
    """At most a page of headings, no row lost."""
    rows = [row(f"block{index}.{part}") for index in range(400) for part in "ab"]
    groups = group_rows(rows)
    assert len(groups) <= MOST_GROUPS + 2
    assert [member for group in groups for member in group.rows] == rows
    assert groups[0].name.startswith("block0 … block")


def test_problems_are_open_and_counted():
    """A reader must not have to look for them."""
    group = RowGroup("a", (row("a.0"), row("a.1"), row("a.2", "missing")))
    assert group.is_open
    assert group.counts == "2 exact, 1 missing"
    assert not RowGroup("a", (row("a.0"),)).is_open
