"""The problems of a plan: those that are alike together, each with the arguments that solve it."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain

from regraft.errors import Advice
from regraft.foundation.patterns import compile_pattern, is_chosen, parents
from regraft.plans.rows import RequirementRow, Row, value_text

AnyRow = Row | RequirementRow
MOST_CAUSES = 8  # groups of problems in an error; more would not fit a screen
MOST_NAMES = 6  # of a group's members that are listed


def problem_text(rows: Sequence[Row], requirements: Sequence[RequirementRow]) -> str:
    """All problems as one error text; those that are alike are shown once, by the first of them, and counted."""
    settings = [row for row in requirements if row.is_problem]
    count = sum(row.is_problem for row in rows) + len(settings)
    total = len(rows) + len(requirements)
    lines = [f"{count} of {total} rows of the plan are problems; nothing was changed."]
    for members in causes(rows, MOST_CAUSES):
        lines += _cause_lines(members)
    for alike in _settings_alike(settings):
        lines += [alike[0].problem(), *_more(alike)]
    return "\n".join(lines)


def problem_advice(rows: Sequence[Row], requirements: Sequence[RequirementRow]) -> tuple[Advice, ...]:
    """What solves the problems: one advice for each argument and effect, with the names of all that it is for."""
    everything: list[AnyRow] = [*rows, *requirements]
    return advice_for([row for row in everything if row.is_problem], everything)


def advice_for(members: Sequence[AnyRow], everything: Sequence[AnyRow]) -> tuple[Advice, ...]:
    """The advice of these rows, together where argument and effect are the same; `everything` is the whole plan."""
    names = {row.name for row in members}
    others = [row.name for row in everything if row.name not in names]
    groups: dict[tuple[str, ...], list[Advice]] = defaultdict(list)
    for advice in chain.from_iterable(row.advice for row in members):
        is_list = isinstance(advice.value, list | dict)
        groups[advice.argument, advice.effect, "" if is_list else repr(advice.value)].append(advice)
    return tuple(_together(alike, others) for alike in groups.values())


def _together(alike: Sequence[Advice], others: Collection[str]) -> Advice:
    """One advice with the values of all; names that differ in numbers alone become one pattern."""
    first = alike[0]
    if isinstance(first.value, dict):
        return replace(first, value=_merged_dicts([advice.value for advice in alike], others))  # type: ignore[misc]
    if not isinstance(first.value, list):
        return first
    patterns = [pattern for advice in alike for pattern in advice.value]  # type: ignore[attr-defined]
    if first.argument == "fresh":
        patterns = _outermost(patterns, others)
    return replace(first, value=_shortened(list(dict.fromkeys(patterns)), others))


def _merged_dicts(values: Sequence[dict[str, str | list[str]]], others: Collection[str]) -> dict[str, str | list[str]]:
    by_method: dict[str | tuple[str, ...], list[str]] = defaultdict(list)
    for value in values:
        for pattern, method in value.items():
            by_method[tuple(method) if isinstance(method, list) else method].append(pattern)
    methods = {key: list(key) if isinstance(key, tuple) else key for key in by_method}
    return {pattern: methods[key] for key, several in by_method.items() for pattern in _shortened(several, others)}


def _outermost(names: Iterable[str], others: Collection[str]) -> list[str]:
    """For each name the outermost part of the model in which all that is left is meant."""
    taken = {parent for other in others for parent in parents(other)}
    return [next((part for part in reversed(parents(name)) if part not in taken), name) for name in names]


def _shortened(patterns: Sequence[str], others: Collection[str]) -> list[str]:
    """The patterns; many that differ in numbers alone as one, where it matches nothing else."""
    if len(patterns) <= MOST_NAMES:
        return list(patterns)
    groups: dict[str, list[str]] = defaultdict(list)
    for pattern in patterns:
        groups[re.sub(r"\d+", lambda _: r"\d+", pattern)].append(pattern)
    return [shortened for general, members in groups.items() for shortened in _general(general, members, others)]


def _general(general: str, members: Sequence[str], others: Collection[str]) -> Sequence[str]:
    compiled = [compile_pattern(general)]
    is_exact = len(members) > 1 and not any(is_chosen(other, compiled) for other in others)
    return [general] if is_exact else members


def causes(rows: Sequence[Row], most: int, *, by_layer: bool = False) -> list[list[Row]]:
    """The problems, together where the same solves them; where there are many, by wider and wider parts of the model
    until at most so many groups are left, or what solves them differs."""
    problems = [row for row in rows if row.is_problem]
    deepest = max((row.name.count(".") + 1 for row in problems), default=0)
    groups: dict[tuple[object, ...], list[Row]] = {}
    for depth in range(deepest, -1, -1):
        groups = defaultdict(list)
        for row in problems:
            groups[_cause(row, depth, by_layer=by_layer)].append(row)
        if len(groups) <= most:
            break
    return list(groups.values())


def _cause(row: Row, depth: int, *, by_layer: bool) -> tuple[object, ...]:
    """Equal for rows that are one cause: without sources wherever they are, else in one part of the model."""
    solution = tuple((advice.argument, advice.effect) for advice in row.advice)
    if not row.sources:
        return (row.status, row.note, solution)
    kept = min(depth, row.name.count(".")) if by_layer else depth
    return (row.status, solution, first_parts(row.name, kept))


def first_parts(name: str, depth: int) -> str:
    """The first `depth` parts of a name, of ours or of theirs."""
    separator = "." if "." in name and "/" not in name else "/"
    return separator.join(name.split(separator)[:depth])


def _cause_lines(members: Sequence[Row]) -> list[str]:
    first = members[0]
    if first.sources:
        return [first.problem(), *_more(members)]
    targets = [f"  target  {row.target}  expected {row.target_form()}" for row in members[:MOST_NAMES]]
    return [*targets, *_more(members, shown=MOST_NAMES), f"  {first.status}: {first.note}".replace("\n", "\n  ")]


def _settings_alike(settings: Sequence[RequirementRow]) -> list[list[RequirementRow]]:
    """One by one; where there are many, those with the same attribute and values together."""
    if len(settings) <= MOST_CAUSES:
        return [[row] for row in settings]
    groups: dict[tuple[str, str, str], list[RequirementRow]] = defaultdict(list)
    for row in settings:
        groups[row.attribute, value_text(row.required), value_text(row.found)].append(row)
    return list(groups.values())


def _more(members: Sequence[AnyRow], shown: int = 1) -> list[str]:
    """A line for the members of the group that are not shown one by one."""
    rest = [row.name for row in members[shown:]]
    names = ", ".join(rest[:MOST_NAMES]) + ", …" * (len(rest) > MOST_NAMES)
    return [f"  and {len(rest)} more like {'it' if shown == 1 else 'them'}: {names}"] if rest else []
