"""A plan as a table that fits a screen."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

from regraft.errors import Advice
from regraft.foundation.wording import counted, one_line
from regraft.plans.problems import MOST_CAUSES, AnyRow, advice_for, causes, first_parts
from regraft.plans.rows import RequirementRow, Row, Status

_LEFT_WORDS: dict[Status, str] = {
    "unused": "unused",
    "excluded": "excluded",
    "optimizer_slot": "for training only",
}
Cells = tuple[str, ...]


def heading(rows: Sequence[Row], requirements: Sequence[RequirementRow]) -> str:
    """One line: 6 reused · 4 fresh · 0 problems, and what stays behind in the checkpoint."""
    everything: list[AnyRow] = [*rows, *requirements]
    problems = counted(sum(row.is_problem for row in everything), "problem")
    statuses = Counter(row.status for row in rows)
    counts = f"{sum(row.is_reused for row in rows)} reused · {statuses['kept_init']} fresh · {problems}"
    left = [f"{statuses[status]} {word}" for status, word in _LEFT_WORDS.items() if statuses[status]]
    return counts + (f"   (in the checkpoint: {', '.join(left)})" if left else "")


def table(
    title: str,
    rows: Sequence[Row],
    requirements: Sequence[RequirementRow],
    notes: Sequence[str],
    *,
    limit: int | None,
    spell: Callable[[Advice], str] = str,
) -> str:
    """Heading, title, a line for each group of rows that are alike, settings, what solves the problems, notes.

    limit   about so many lines; None gives a line to each row
    spell   writes an advice as its reader types it
    """
    settings = [row for row in requirements if limit is None or row.status != "met"]
    solutions = [*_solutions(rows, limit, spell), *_solutions_of_settings(rows, requirements, spell)]
    room = None if limit is None else max(8, limit - 4 - len(notes) - len(solutions) - min(len(settings), limit // 3))
    blocks = [
        [heading(rows, requirements), title],
        _aligned(_grouped(rows, room)),
        _aligned(_grouped_settings(settings, None if limit is None else limit // 3)),
        solutions,
        [f"note: {note}" for note in notes],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _solutions(rows: Sequence[Row], limit: int | None, spell: Callable[[Advice], str]) -> list[str]:
    """What solves each kind of problem, and what the table's own line cannot show of its note."""
    groups = causes(rows, MOST_CAUSES if limit is None else limit // 10, by_layer=True)
    lines = []
    for members in groups[: None if limit is None else limit // 8]:
        notes = members[0].note.splitlines()
        shown = notes if len(notes) > 1 or len(members) > 1 else []
        lines += _solution(members, [*shown, *map(spell, advice_for(members, rows))])
    return lines


def _solutions_of_settings(
    rows: Sequence[Row], requirements: Sequence[RequirementRow], spell: Callable[[Advice], str]
) -> list[str]:
    members = [row for row in requirements if row.is_problem]
    return _solution(members, list(map(spell, advice_for(members, (*rows, *requirements)))))


def _solution(members: Sequence[AnyRow], lines: Sequence[str]) -> list[str]:
    """The lines below the names that they are for; nothing when there is none."""
    indented = [f"  {line}" for line in lines if line]
    return [f"{members[0].status}: {_listed(members)}", *indented] if indented else []


def _listed(members: Sequence[AnyRow]) -> str:
    return ", ".join(row.name for row in members[:3]) + f" and {len(members) - 3} more" * (len(members) > 3)


def _grouped(rows: Sequence[Row], room: int | None) -> list[Cells]:
    """The cells of the table, grouped by the longest prefixes that leave at most `room` lines.

    Problems stay one by one as long as there is room for them.
    """
    if room is None or len(rows) <= room:
        return list(map(_cells, rows))
    deepest = max(row.name.count(".") for row in rows)
    lines: list[Cells] = []
    for keep_problems, depth in product((True, False), range(deepest, -1, -1)):
        lines = _lines_of_groups(rows, depth, keep_problems=keep_problems)
        if len(lines) <= room:
            break
    return lines


def _lines_of_groups(rows: Sequence[Row], depth: int, *, keep_problems: bool) -> list[Cells]:
    """A line for each group of rows that agree in the first parts of their names, in status and in kind of work."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for index, row in enumerate(rows):
        work = tuple(type(operation).__name__ for operation in row.operations)
        alike = (first_parts(row.name, depth), row.status, row.target is None, work)
        groups.setdefault((index,) if keep_problems and row.is_problem else alike, []).append(row)
    return [
        _cells(members[0]) if len(members) == 1 else _group_cells(str(key[0]), members)
        for key, members in groups.items()
    ]


def _cells(row: Row) -> Cells:
    source = f"<- {', '.join(row.sources)}" if row.sources else ""
    first_line = row.note.splitlines()[0] if row.note else ""
    remarks = "; ".join(part for part in (row.work(), first_line) if part)
    name, shape = ("-", row.source_shapes[0]) if row.target is None else (row.target, row.target_shape)
    return (_mark(row), row.status, name, str(shape), source, remarks)


def _group_cells(prefix: str, members: Sequence[Row]) -> Cells:
    first = members[0]
    name = f"{prefix}{'.' if '/' not in first.name else '/'}…" if prefix else "…"
    # Alike work in other shapes is shown by its first example.
    work = first.work() + ", …" * any(row.work() != first.work() for row in members)
    cells = (_mark(first), first.status, "-" if first.target is None else name, f"{len(members)} arrays")
    if first.target is None:
        return (*cells, f"<- {name}", work)
    sources = [row.sources[0] for row in members if row.sources]
    return (*cells, f"<- {_common_start(sources)}…" if sources else "", work)


def _common_start(names: Sequence[str]) -> str:
    low, high = min(names, default=""), max(names, default="")
    length = next((index for index, letter in enumerate(low) if letter != high[index : index + 1]), len(low))
    return low[:length]


def _grouped_settings(settings: Sequence[RequirementRow], room: int | None) -> list[Cells]:
    groups: dict[object, list[RequirementRow]] = {}
    for index, row in enumerate(settings):
        alike = (row.status, row.attribute, str(row.required), str(row.found))
        groups.setdefault(index if room is None or len(settings) <= room else alike, []).append(row)
    return [_setting_cells(members) for members in groups.values()]


def _setting_cells(members: Sequence[RequirementRow]) -> Cells:
    first = members[0]
    name = first.name if len(members) == 1 else f"{first.name} and {len(members) - 1} more"
    return (_mark(first), first.status, name, f"{first.required} (module: {first.found})", first.note)


def _mark(row: AnyRow) -> str:
    return "!" if row.is_problem else " "


def _aligned(lines: Sequence[Cells]) -> list[str]:
    """Columns of equal width, but for the last; no longer than a wide terminal allows where names are short."""
    if not lines:
        return []
    lines = [tuple(map(one_line, line)) for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]
