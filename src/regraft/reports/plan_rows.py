"""The plan's rows as the report shows them: what each status means for the reader, and groups that fit a page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from regraft.operations.operation import Shape
from regraft.plans.rows import Row

OPEN_ROWS = 24  # a plan up to this long is one open table; a longer one is grouped and folded
GROUP_ROWS = 48  # a group longer than this is split by the next part of its names
MOST_GROUPS = 24


@dataclass(frozen=True)
class RowGroup:
    """Neighbouring rows of the plan under one name."""

    name: str
    rows: tuple[Row, ...]

    @property
    def counts(self) -> str:
        """The statuses and how often each occurs, the most frequent first: "12 exact, 2 kept_init"."""
        return ", ".join(
            f"{count} {status}" for status, count in Counter(row.status for row in self.rows).most_common()
        )

    @property
    def is_open(self) -> bool:
        """Whether the reader should see the rows at once: problems always, fresh layers while they are few."""
        kinds = {row_kind(row) for row in self.rows}
        return "problem" in kinds or ("fresh" in kinds and len(self.rows) <= OPEN_ROWS)


def row_kind(row: Row) -> str:
    """ "reused", "fresh" (as initialised), "left" (in the checkpoint) or "problem"."""
    if row.is_reused:
        return "reused"
    if row.is_problem:
        return "problem"
    return "fresh" if row.status == "kept_init" else "left"


def row_shape(row: Row) -> Shape:
    """The shape of the target, or of a source that fills nothing."""
    if row.target_shape is not None:
        return row.target_shape
    return row.source_shapes[0] if row.source_shapes else ()


def group_rows(rows: Sequence[Row]) -> list[RowGroup]:
    """The rows by the model's blocks, in order; arrays that stay in the checkpoint come last.

    A short plan is one group without a name.
    """
    if len(rows) <= OPEN_ROWS:
        return [RowGroup("", tuple(rows))] if rows else []
    blocks = _by_prefix([row for row in rows if row.target], 1)
    left = tuple(row for row in rows if not row.target)
    return _merged(blocks) + ([RowGroup("Left in the checkpoint", left)] if left else [])


def _by_prefix(rows: Sequence[Row], depth: int) -> list[RowGroup]:
    """Groups of rows whose names share their first `depth` parts, deeper where a group is long."""
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        blocks.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
    groups: list[RowGroup] = []
    for name, block in blocks.items():
        can_split = any(row.name.count(".") > depth for row in block)
        split = len(block) > GROUP_ROWS and can_split
        groups += _by_prefix(block, depth + 1) if split else [RowGroup(name, tuple(block))]
    return groups


def _merged(groups: list[RowGroup]) -> list[RowGroup]:
    """Neighbours joined while they are small and the groups are too many to look through."""
    if len(groups) <= MOST_GROUPS:
        return groups
    limit = max(GROUP_ROWS // 2, sum(len(group.rows) for group in groups) // MOST_GROUPS)
    merged, size = [groups[:1]], len(groups[0].rows)
    for group in groups[1:]:
        if size + len(group.rows) > limit:
            merged.append([])
            size = 0
        merged[-1].append(group)
        size += len(group.rows)
    return [_joined(parts) for parts in merged]


def _joined(groups: list[RowGroup]) -> RowGroup:
    name = groups[0].name if len(groups) == 1 else f"{groups[0].name} … {groups[-1].name}"
    return RowGroup(name, tuple(row for group in groups for row in group.rows))
