"""A plan as text: the heading, the table that fits a screen, the error of its problems, the difference of two plans."""

from collections import Counter
from collections.abc import Sequence

from regraft.plans.rows import RequirementRow, Row, Status

AnyRow = Row | RequirementRow

_LEFT_WORDS: dict[Status, str] = {
    "unused": "unused",
    "excluded": "excluded",
    "optimizer_slot": "for training only",
}


def heading(rows: Sequence[Row], requirements: Sequence[RequirementRow]) -> str:
    """One line: 6 reused · 4 fresh · 0 problems, and what stays behind in the checkpoint."""
    fresh = sum(row.status == "kept_init" for row in rows)
    problems = sum(row.is_problem for row in rows) + sum(row.is_problem for row in requirements)
    counts = f"{sum(row.is_reused for row in rows)} reused · {fresh} fresh · {problems} problem{'s' * (problems != 1)}"
    left = Counter(row.status for row in rows if row.target is None)
    told = [f"{left[status]} {word}" for status, word in _LEFT_WORDS.items() if left[status]]
    return counts + (f"   (in the checkpoint: {', '.join(told)})" if told else "")


def table(
    title: str,
    rows: Sequence[Row],
    requirements: Sequence[RequirementRow],
    notes: Sequence[str],
    *,
    limit: int | None,
) -> str:
    """Heading, title, a line for each group of rows that are alike (each row when `limit` is None), settings, notes."""
    told = [row for row in requirements if limit is None or row.status != "met"]
    room = None if limit is None else max(8, limit - 4 - len(notes) - min(len(told), limit // 3))
    blocks = [
        [heading(rows, requirements), title],
        _aligned(_grouped(rows, room)),
        _aligned(_grouped_settings(told, None if limit is None else limit // 3)),
        [f"note: {note}" for note in notes],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _grouped(rows: Sequence[Row], room: int | None) -> list[tuple[str, ...]]:
    """The cells of the table, grouped by the longest prefixes that leave at most `room` lines.

    Problems stay one by one as long as there is room for them.
    """
    if room is None or len(rows) <= room:
        return [_cells(row) for row in rows]
    deepest = max(row.name.count(".") + 1 for row in rows)
    for keep_problems in (True, False):
        for depth in range(deepest - 1, -1, -1):
            lines = _lines_at(rows, depth, keep_problems=keep_problems)
            if len(lines) <= room:
                return lines
    return lines


def _lines_at(rows: Sequence[Row], depth: int, *, keep_problems: bool) -> list[tuple[str, ...]]:
    """A line for each group of rows that agree in the first parts of their names, in status and in kind of work."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for index, row in enumerate(rows):
        alike = (_prefix(row.name, depth), row.status, row.target is None, _kinds_of_work(row))
        groups.setdefault((index,) if keep_problems and row.is_problem else alike, []).append(row)
    return [
        _cells(members[0]) if len(members) == 1 else _group_cells(str(key[0]), members)
        for key, members in groups.items()
    ]


def _prefix(name: str, depth: int) -> str:
    """The first `depth` parts of a name, of ours or of theirs."""
    separator = "." if "." in name and "/" not in name else "/"
    return separator.join(name.split(separator)[:depth])


def _kinds_of_work(row: Row) -> tuple[str, ...]:
    return tuple(type(operation).__name__ for operation in row.operations)


def _cells(row: Row) -> tuple[str, ...]:
    source = ", ".join(row.sources)
    shape = str(row.target_shape if row.target is not None else row.source_shapes[0])
    mark = "!" if row.is_problem else " "
    told = "; ".join(part for part in (row.work(), row.note.splitlines()[0] if row.note else "") if part)
    if row.target is None:
        return (mark, row.status, "-", shape, f"<- {source}", told)
    return (mark, row.status, row.target, shape, f"<- {source}" if source else "", told)


def _group_cells(prefix: str, members: Sequence[Row]) -> tuple[str, ...]:
    first = members[0]
    separator = "." if "/" not in first.name else "/"
    name = f"{prefix}{separator}…" if prefix else "…"
    work = {row.work() for row in members}
    # Alike work in other shapes is told by its first example.
    told = first.work() + (", …" if len(work) > 1 else "")
    count = f"{len(members)} arrays"
    mark = "!" if first.is_problem else " "
    if first.target is None:
        return (mark, first.status, "-", count, f"<- {name}", told)
    source = _common_start([row.sources[0] for row in members if row.sources])
    return (mark, first.status, name, count, f"<- {source}…" if first.sources else "", told)


def _common_start(names: Sequence[str]) -> str:
    if not names:
        return ""
    low, high = min(names), max(names)
    length = next((index for index, letter in enumerate(low) if letter != high[index : index + 1]), len(low))
    return low[:length]


def _grouped_settings(requirements: Sequence[RequirementRow], room: int | None) -> list[tuple[str, ...]]:
    if room is None or len(requirements) <= room:
        return [
            ("!" if row.is_problem else " ", row.status, row.name, f"{row.required} (module: {row.found})", row.note)
            for row in requirements
        ]
    groups: dict[tuple[str, ...], list[RequirementRow]] = {}
    for row in requirements:
        groups.setdefault((row.status, row.attribute, str(row.required), str(row.found)), []).append(row)
    return [
        (
            "!" if members[0].is_problem else " ",
            members[0].status,
            members[0].name if len(members) == 1 else f"{members[0].name} and {len(members) - 1} more",
            f"{members[0].required} (module: {members[0].found})",
            members[0].note,
        )
        for members in groups.values()
    ]


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, but for the last; no longer than a wide terminal allows where names are short."""
    if not lines:
        return []
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]


def problem_text(rows: Sequence[Row], requirements: Sequence[RequirementRow]) -> str:
    """All problems as one error text; arrays that share a cause are listed under it once."""
    problems = [row for row in rows if row.is_problem]
    differing = [row for row in requirements if row.is_problem]
    count = len(problems) + len(differing)
    verb = "does" if count == 1 else "do"
    text = [
        f"{count} of {len(rows) + len(requirements)} rows of the plan {verb} not fit the model; nothing was changed."
    ]
    causes: dict[str, list[Row]] = {}
    for row in problems:
        if not row.sources:
            causes.setdefault(f"{row.status}: {row.note}", []).append(row)
        else:
            text.append(row.problem())
    for cause, members in causes.items():
        text.extend(f"  target  {row.target}  expected {row.target_shape} {row.target_dtype}" for row in members)
        text.append(f"  {cause}")
    text.extend(row.problem() for row in differing)
    return "\n".join(text)


def differences(ours: Sequence[AnyRow], theirs: Sequence[AnyRow]) -> tuple[str, ...]:
    """One line for each row that only one side has, or that says something else there."""
    before, after = ({_identity(row): _meaning(row) for row in side} for side in (ours, theirs))
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) == after.get(key):
            continue
        if key not in after:
            lines.append(f"- {key}: {before[key]}")
        elif key not in before:
            lines.append(f"+ {key}: {after[key]}")
        else:
            lines.append(f"~ {key}: {before[key]} -> {after[key]}")
    return tuple(lines)


def _identity(row: AnyRow) -> str:
    if isinstance(row, RequirementRow):
        return f"setting {row.name}"
    return row.name if row.target is not None else f"source {row.name}"


def _meaning(row: AnyRow) -> str:
    if isinstance(row, RequirementRow):
        return f"{row.status}, {row.required} (module: {row.found})"
    parts = [row.status, f"from {', '.join(row.sources)}" if row.target and row.sources else "", row.work()]
    shapes = f"{row.target_shape} {row.target_dtype}" if row.target is not None else f"{row.source_shapes}"
    return ", ".join(part for part in (*parts, shapes) if part)
