"""The plan: one row for each array of the model and of the checkpoint, saying where it goes and why. Plain data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final, get_args

from regraft.errors import PlanError
from regraft.operations.running import operation_from_json
from regraft.plans.rows import RequirementRow, RequirementStatus, Row, Status
from regraft.plans.table import differences, heading, problem_text, table
from regraft.wording import near_names

VERSION = 1


@final
@dataclass(frozen=True)
class FileIdentity:
    """One file of a checkpoint; `saving` computes its sha256 for the provenance."""

    name: str
    size_bytes: int
    path: str = ""
    sha256: str = ""


@final
@dataclass(frozen=True)
class CheckpointIdentity:
    """Which checkpoint a plan was made for."""

    path: str
    format: str
    layout: str | None
    files: tuple[FileIdentity, ...] = ()


@final
@dataclass(frozen=True)
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
    def problems(self) -> tuple[Row | RequirementRow, ...]:
        """The rows that stop `apply_plan`; empty when the plan can be applied."""
        return (*(row for row in self.rows if row.is_problem), *(row for row in self.requirements if row.is_problem))

    @property
    def reused(self) -> tuple[Row, ...]:
        """The rows that `apply_plan` writes."""
        return tuple(row for row in self.rows if row.is_reused)

    @property
    def adopted(self) -> tuple[RequirementRow, ...]:
        """What `apply_plan` changes in the model beside its arrays."""
        return tuple(row for row in self.requirements if row.status == "adopted")

    def check(self) -> None:
        """Raise PlanError with all problems at once; nothing when there is none."""
        if self.problems:
            raise PlanError(problem_text(self.rows, self.requirements))

    def heading(self) -> str:
        """One line: how many arrays are reused, stay fresh, and are problems."""
        return heading(self.rows, self.requirements)

    def table(self, *, all: bool = False, lines: int = 40) -> str:
        """The plan for people: grouped to about `lines` lines, or with `all` a line for each row."""
        title = f"{self.checkpoint.path} ({self.checkpoint.format}, layout {self.layout or 'unknown'})"
        return table(title, self.rows, self.requirements, self.notes, limit=None if all else lines)

    def __str__(self) -> str:
        return self.table()

    def diff(self, other: "Plan") -> tuple[str, ...]:
        """What is different in `other`, one line for each difference; empty when the plans do the same."""
        return differences((*self.rows, *self.requirements), (*other.rows, *other.requirements))

    def to_json(self) -> str:
        """The plan as JSON text that a person can edit: rows name arrays, tables give their shapes and dtypes."""
        targets = {
            row.target: {"shape": row.target_shape, "dtype": row.target_dtype}
            for row in self.rows
            if row.target is not None
        }
        sources = {
            name: {"shape": shape, "dtype": dtype}
            for row in self.rows
            for name, shape, dtype in zip(row.sources, row.source_shapes, row.source_dtypes, strict=True)
        }
        identity = self.checkpoint
        data = {
            "regraft_plan": VERSION,
            "checkpoint": {
                "path": identity.path,
                "format": identity.format,
                "layout": identity.layout,
                "files": [vars(file) for file in identity.files],
            },
            "layout": self.layout,
            "notes": self.notes,
            "rows": [_row_to_json(row) for row in self.rows],
            "requirements": [vars(row) for row in self.requirements],
            "targets": targets,
            "sources": sources,
        }
        return _compact_json(data)

    @staticmethod
    def from_json(text: str) -> "Plan":
        """The plan that `to_json` wrote, with all edits made since.

        Raises PlanError that names the row when a status, an operation or an array is unknown.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"The plan is not JSON: {error}.") from error
        if not isinstance(data, dict) or data.get("regraft_plan") != VERSION:
            raise PlanError(
                f"This is no plan that this version of regraft reads (regraft_plan: {VERSION} is expected)."
            )
        try:
            identity = data["checkpoint"]
            return Plan(
                checkpoint=CheckpointIdentity(
                    path=identity["path"],
                    format=identity["format"],
                    layout=identity["layout"],
                    files=tuple(FileIdentity(**file) for file in identity["files"]),
                ),
                layout=data["layout"],
                rows=tuple(_row_from_json(row, data["targets"], data["sources"]) for row in data["rows"]),
                requirements=tuple(requirement_from_json(row) for row in data["requirements"]),
                notes=tuple(data["notes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"The plan is damaged or was edited into another form: {error!r}.") from error


def _row_to_json(row: Row) -> dict[str, Any]:
    data: dict[str, Any] = {"target": row.target, "sources": row.sources, "status": row.status}
    data["operations"] = [operation.to_json() for operation in row.operations]
    if row.accepted:
        data["accepted"] = row.accepted
    if row.note:
        data["note"] = row.note
    return data


def _row_from_json(data: Mapping[str, Any], targets: Mapping[str, Any], sources: Mapping[str, Any]) -> Row:
    target, names, status = data["target"], tuple(data["sources"]), data["status"]
    where = f"row {target or ', '.join(names)}"
    if status not in get_args(Status):
        raise PlanError(f"{where}: there is no status {status!r}. Statuses: {', '.join(get_args(Status))}.")
    if target is not None and target not in targets:
        raise PlanError(f"{where}: the plan's model has no array {target!r}. {near_names(target, targets)}")
    for name in names:
        if name not in sources:
            raise PlanError(f"{where}: the plan's checkpoint has no array {name!r}. {near_names(name, sources)}")
    try:
        operations = tuple(operation_from_json(operation) for operation in data["operations"])
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from error
    return Row(
        target=target,
        sources=names,
        status=status,
        operations=operations,
        target_shape=None if target is None else tuple(targets[target]["shape"]),
        target_dtype="" if target is None else targets[target]["dtype"],
        source_shapes=tuple(tuple(sources[name]["shape"]) for name in names),
        source_dtypes=tuple(sources[name]["dtype"] for name in names),
        accepted=tuple(data.get("accepted", ())),
        note=data.get("note", ""),
    )


def requirement_from_json(data: Mapping[str, Any]) -> RequirementRow:
    """One row of settings as `to_json` wrote it. Raises PlanError for a status that there is not."""
    if data["status"] not in get_args(RequirementStatus):
        raise PlanError(
            f"setting {data['layer']}.{data['attribute']}: there is no status {data['status']!r}. "
            f"Statuses: {', '.join(get_args(RequirementStatus))}."
        )
    return RequirementRow(**{**data, "required": _frozen(data["required"]), "found": _frozen(data["found"])})


def _frozen(value: object) -> object:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _compact_json(data: Mapping[str, Any]) -> str:
    """JSON with one line for each row, so that a person can read, edit and compare it."""
    blocks = []
    for key, value in data.items():
        if isinstance(value, (list, tuple)) and value:
            body = "[\n" + ",\n".join(f"  {_line(item)}" for item in value) + "\n ]"
        elif isinstance(value, dict) and len(value) > 4:
            body = "{\n" + ",\n".join(f"  {json.dumps(name)}: {_line(item)}" for name, item in value.items()) + "\n }"
        else:
            body = _line(value)
        blocks.append(f" {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
