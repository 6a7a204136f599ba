"""A plan as text: the heading, the table that fits a screen, the error of its problems, the difference of two plans."""

import re
from collections import Counter
from collections.abc import Sequence

from regraft.patterns import parents
from regraft.plans.rows import RequirementRow, Row, Status

AnyRow = Row | RequirementRow
MOST_CAUSES = 8  # groups of problems in an error; more would not fit a screen
MOST_NAMES = 6  # of a group's members that are listed
_NAMED = re.compile(r'"[^"]*"|\d+')  # what an advice names: layers, sizes

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
    """Heading, title, a line for each group of rows that are alike, settings, what to do about the problems, notes.

    limit   about so many lines; None gives a line to each row
    """
    told = [row for row in requirements if limit is None or row.status != "met"]
    ways = _ways_out(rows, limit)
    room = None if limit is None else max(8, limit - 4 - len(notes) - len(ways) - min(len(told), limit // 3))
    blocks = [
        [heading(rows, requirements), title],
        _aligned(_grouped(rows, room)),
        _aligned(_grouped_settings(told, None if limit is None else limit // 3)),
        ways,
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
    """All problems as one error text; those that are alike are told once, by the first of them, and counted."""
    differing = [row for row in requirements if row.is_problem]
    count = sum(row.is_problem for row in rows) + len(differing)
    verb = "does" if count == 1 else "do"
    text = [
        f"{count} of {len(rows) + len(requirements)} rows of the plan {verb} not fit the model; nothing was changed."
    ]
    for members in _causes(rows, MOST_CAUSES):
        first = members[0]
        if first.sources:
            text += [first.problem(), *_more(members)]
        else:
            text += [
                f"  target  {row.target}  expected {row.target_shape} {row.target_dtype}"
                for row in members[:MOST_NAMES]
            ]
            text += _more(members, shown=MOST_NAMES)
            text += [f"  {line}" for line in f"{first.status}: {_way_out(members, rows)}".splitlines()]
    alike: dict[object, list[RequirementRow]] = {}
    for index, setting in enumerate(differing):
        key = index if len(differing) <= MOST_CAUSES else (setting.attribute, str(setting.required), str(setting.found))
        alike.setdefault(key, []).append(setting)
    for settings in alike.values():
        text += [settings[0].problem(), *_more(settings)]
    return "\n".join(text)


def _ways_out(rows: Sequence[Row], limit: int | None) -> list[str]:
    """What to do about each kind of problem, where the table's own line does not tell all of it."""
    causes = _causes(rows, MOST_CAUSES if limit is None else limit // 10, by_layer=True)
    lines = []
    for members in causes if limit is None else causes[: limit // 8]:
        told = _way_out(members, rows).splitlines()
        if len(told) > 1 or len(members) > 1:
            names = ", ".join(row.name for row in members[:3]) + f" and {len(members) - 3} more" * (len(members) > 3)
            lines += [f"{members[0].status}: {names}", *(f"  {line}" for line in told)]
    return lines


def _causes(rows: Sequence[Row], most: int, *, by_layer: bool = False) -> list[list[Row]]:
    """The problems, together where the same is to be done about them; where there are many, by wider and wider parts
    of the model until at most so many groups are left, or what is to be done differs."""
    problems = [row for row in rows if row.is_problem]
    deepest = max((row.name.count(".") + 1 for row in problems), default=0)
    groups: dict[tuple[object, ...], list[Row]] = {}
    for depth in range(deepest, -1, -1):
        groups = {}
        for row in problems:
            # What is advised, whatever it names: one way out for all layers that it can be said of.
            advice = row.note if not row.sources else _NAMED.sub("", row.note.rpartition("\n")[2])
            place = _prefix(row.name, min(depth, row.name.count(".")) if by_layer else depth) if row.sources else ""
            groups.setdefault((row.status, advice, place), []).append(row)
        if len(groups) <= most:
            break
    return list(groups.values())


def _way_out(members: Sequence[Row], rows: Sequence[Row]) -> str:
    """The note of problems that are alike; where a few layers are all that lacks a source, with their names."""
    return members[0].note.replace('fresh=["…"]', f'fresh=["{_pattern_of(members, rows)}"]')


def _pattern_of(members: Sequence[Row], rows: Sequence[Row]) -> str:
    """A pattern for exactly the targets of these rows; "…" where it would be long."""
    all_below = Counter(parent for row in rows if row.target is not None for parent in parents(row.target))
    ours_below = Counter(parent for row in members if row.target is not None for parent in parents(row.target))
    whole = dict.fromkeys(
        [name for name in parents(row.target or "") if ours_below[name] == all_below[name]][-1] for row in members
    )
    return "|".join(whole) if len(whole) <= MOST_NAMES else "…"


def _more(members: Sequence[AnyRow], shown: int = 1) -> list[str]:
    """A line for those of the group that are not told one by one."""
    rest = [row.name for row in members[shown:]]
    names = ", ".join(rest[:MOST_NAMES]) + ", …" * (len(rest) > MOST_NAMES)
    return [f"  and {len(rest)} more like {'it' if shown == 1 else 'them'}: {names}"] if rest else []


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
