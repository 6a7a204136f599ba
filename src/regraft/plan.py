"""The plan: one row for each array of the model and of the checkpoint, saying where it goes and why. Plain data."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

from regraft.errors import Advice, PlanError
from regraft.foundation.showing import html_text
from regraft.plans.problems import AnyRow, problem_advice, problem_text
from regraft.plans.rows import RequirementRow, Row
from regraft.plans.rows_json import (
    arrays_to_json,
    compact_json,
    requirement_from_json,
    requirement_to_json,
    row_from_json,
    row_to_json,
)
from regraft.plans.table import heading, table

VERSION = 1


@final
@dataclass(frozen=True)
class FileIdentity:
    """One file of a checkpoint; `saving` computes its sha256 for the provenance.

    modified_ns  when its content last changed, by the file system's clock; 0 when it is not known
    """

    name: str
    size_bytes: int
    path: str = ""
    sha256: str = ""
    modified_ns: int = 0


@final
@dataclass(frozen=True)
class CheckpointIdentity:
    """Which checkpoint a plan was made for."""

    path: str
    format: str
    layout: str | None
    files: tuple[FileIdentity, ...] = ()


@final
@dataclass(frozen=True, repr=False)
class Plan:
    """Which array goes where, and why: made by `plan_reuse`, executed by `apply_plan`.

    layout        the axis orders that were assumed for the checkpoint, None when they are unknown
    rows          the model's arrays in its order, then the sources that fill nothing
    requirements  eps, padding … beside the arrays
    notes         what was assumed or stripped, in sentences
    """

    checkpoint: CheckpointIdentity
    layout: str | None
    rows: tuple[Row, ...]
    requirements: tuple[RequirementRow, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def problems(self) -> tuple[AnyRow, ...]:
        """The rows that stop `apply_plan`; empty when the plan can be applied."""
        everything: list[AnyRow] = [*self.rows, *self.requirements]
        return tuple(row for row in everything if row.is_problem)

    @property
    def reused(self) -> tuple[Row, ...]:
        """The rows that `apply_plan` writes."""
        return tuple(row for row in self.rows if row.is_reused)

    @property
    def adopted(self) -> tuple[RequirementRow, ...]:
        """What `apply_plan` changes in the model beside its arrays."""
        return tuple(row for row in self.requirements if row.status == "adopted")

    def check(self) -> None:
        """Raise PlanError with all problems at once, and the arguments that solve them; nothing when there is none."""
        if self.problems:
            advice = problem_advice(self.rows, self.requirements)
            raise PlanError(problem_text(self.rows, self.requirements), advice=advice)

    def heading(self) -> str:
        """One line: how many arrays are reused, stay fresh, and are problems."""
        return heading(self.rows, self.requirements)

    def table(self, *, all: bool = False, lines: int = 40, spell: Callable[[Advice], str] = str) -> str:
        """The plan for people: grouped to about `lines` lines, or with `all` a line for each row.

        spell   writes each advice as its reader types it; by default as Python code
        """
        title = f"{self.checkpoint.path} ({self.checkpoint.format}, layout {self.layout or 'unknown'})"
        limit = None if all else lines
        return table(title, self.rows, self.requirements, self.notes, limit=limit, spell=spell)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<Plan of {self.checkpoint.path}: {self.heading()}; print(plan) shows the table>"

    def _repr_html_(self) -> str:
        return html_text(self.table())

    def diff(self, other: "Plan") -> tuple[str, ...]:
        """What is different in `other`, one line for each difference; empty when the plans do the same."""
        return _differences((*self.rows, *self.requirements), (*other.rows, *other.requirements))

    def to_json(self) -> str:
        """The plan as JSON text that a person can edit: rows name arrays, tables give their shapes and dtypes."""
        targets, sources = arrays_to_json(self.rows)
        return compact_json(
            {
                "regraft_plan": VERSION,
                "checkpoint": {**vars(self.checkpoint), "files": list(map(vars, self.checkpoint.files))},
                "layout": self.layout,
                "notes": self.notes,
                "rows": list(map(row_to_json, self.rows)),
                "requirements": list(map(requirement_to_json, self.requirements)),
                "targets": targets,
                "sources": sources,
            }
        )

    @staticmethod
    def from_json(text: str) -> "Plan":
        """The plan that `to_json` wrote, with all edits made since.

        Raises PlanError that names the row when a status, an operation or an array is unknown.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"The plan is not JSON: {error}.") from error
        if not isinstance(data, dict) or data.get("regraft_plan") != VERSION:
            raise PlanError(f"This file is not a plan of version {VERSION} (regraft_plan: {VERSION} is expected).")
        try:
            files = tuple(FileIdentity(**file) for file in data["checkpoint"]["files"])
            return Plan(
                checkpoint=CheckpointIdentity(**{**data["checkpoint"], "files": files}),
                layout=data["layout"],
                rows=tuple(row_from_json(row, data["targets"], data["sources"]) for row in data["rows"]),
                requirements=tuple(map(requirement_from_json, data["requirements"])),
                notes=tuple(data["notes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"The plan is damaged or was edited into another form: {error!r}.") from error


def _differences(ours: Sequence[AnyRow], others: Sequence[AnyRow]) -> tuple[str, ...]:
    """One line for each row that only one side has, or that says something else there."""
    before, after = ({_identity(row): _meaning(row) for row in side} for side in (ours, others))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return tuple(_difference(key, before.get(key), after.get(key)) for key in changed)


def _difference(key: str, before: str | None, after: str | None) -> str:
    if after is None:
        return f"- {key}: {before}"
    return f"+ {key}: {after}" if before is None else f"~ {key}: {before} -> {after}"


def _identity(row: AnyRow) -> str:
    if isinstance(row, RequirementRow):
        return f"setting {row.name}"
    return row.name if row.target is not None else f"source {row.name}"


def _meaning(row: AnyRow) -> str:
    if isinstance(row, RequirementRow):
        return f"{row.status}, {row.required} (module: {row.found})"
    source = f"from {', '.join(row.sources)}" if row.target and row.sources else ""
    form = row.target_form() if row.target is not None else f"{row.source_shapes}"
    return ", ".join(part for part in (row.status, source, row.work(), form) if part)
