"""The rows of a plan as JSON, and back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args

from regraft.errors import Advice, PlanError
from regraft.foundation.wording import near_names
from regraft.operations.operation import Shape
from regraft.operations.running import operation_from_json
from regraft.plans.rows import RequirementRow, RequirementStatus, Row, Setting, Status, subject_of, typed_value
from regraft.plans.steps import CallStep

Json = dict[str, Any]


def row_to_json(row: Row) -> Json:
    """The row without shapes and dtypes, which the plan keeps once for each array."""
    data: Json = {"target": row.target, "sources": row.sources, "status": row.status}
    data["operations"] = [operation.to_json() for operation in row.operations]
    more = {"accepted": row.accepted, "note": row.note, "advice": _advice_to_json(row.advice)}
    return data | {key: value for key, value in more.items() if value}


def arrays_to_json(rows: Iterable[Row]) -> tuple[Json, Json]:
    """(the targets, the sources): name → shape and dtype, once for each array."""
    targets, sources = {}, {}
    for row in rows:
        if row.target is not None:
            targets[row.target] = {"shape": row.target_shape, "dtype": row.target_dtype}
        for name, shape, dtype in zip(row.sources, row.source_shapes, row.source_dtypes, strict=True):
            sources[name] = {"shape": shape, "dtype": dtype}
    return targets, sources


def row_from_json(data: Mapping[str, Any], targets: Mapping[str, Any], sources: Mapping[str, Any]) -> Row:
    """The row, with the shapes and dtypes that the plan keeps of its arrays. Raises PlanError that names the row."""
    target, names = data["target"], tuple(data["sources"])
    row = f"row {target or ', '.join(names)}"
    _refuse_status(row, data["status"], get_args(Status))
    _refuse_unknown(row, "model", () if target is None else (target,), targets)
    _refuse_unknown(row, "checkpoint", names, sources)
    try:
        operations = tuple(operation_from_json(operation) for operation in data["operations"])
    except PlanError as error:
        raise PlanError(f"{row}: {error}") from error
    forms = [_form(sources[name]) for name in names]
    shape, dtype = (None, "") if target is None else _form(targets[target])
    return Row(
        target=target,
        sources=names,
        status=data["status"],
        operations=operations,
        target_shape=shape,
        target_dtype=dtype,
        source_shapes=tuple(form[0] for form in forms),
        source_dtypes=tuple(form[1] for form in forms),
        accepted=tuple(data.get("accepted", ())),
        note=data.get("note", ""),
        advice=_advice_from_json(data),
    )


def _form(array: Mapping[str, Any]) -> tuple[Shape, str]:
    return tuple(array["shape"]), array["dtype"]


def requirement_to_json(row: RequirementRow) -> Json:
    """One row of settings; a step is written in words, which `requirement_from_json` reads."""
    kind = "setting" if isinstance(row.subject, Setting) else "call" if isinstance(row.subject, CallStep) else "module"
    data: Json = {"layer": row.layer, "attribute": row.attribute, "kind": kind}
    data |= {"required": _value_to_json(row.required), "found": _value_to_json(row.found), "status": row.status}
    data |= {"source_layer": row.source_layer, "note": row.note, "adoptable": row.adoptable}
    return data | ({"advice": _advice_to_json(row.advice)} if row.advice else {})


def requirement_from_json(data: Mapping[str, object]) -> RequirementRow:
    """One row of settings as `requirement_to_json` wrote it. Raises PlanError for a status that there is not."""
    _refuse_status(f"setting {data['layer']}.{data['attribute']}", data["status"], get_args(RequirementStatus))
    subject = subject_of(data)
    required, current = (typed_value(subject, data[name]) for name in ("required", "found"))
    own = {field.name for field in fields(RequirementRow)} - {"subject", "required", "found", "advice"}
    rest: Json = {name: value for name, value in data.items() if name in own}
    return RequirementRow(subject, required, current, **rest, advice=_advice_from_json(data))


def _value_to_json(value: object) -> object:
    """Numbers, texts and lists as they are; a step as text."""
    is_plain = value is None or isinstance(value, str | int | float | tuple | list)
    return value if is_plain else str(value)


def _advice_to_json(advice: tuple[Advice, ...]) -> list[list[object]]:
    return [[item.argument, item.value, item.effect] for item in advice]


def _advice_from_json(data: Mapping[str, Any]) -> tuple[Advice, ...]:
    return tuple(Advice(*item) for item in data.get("advice", ()))


def _refuse_status(row: str, status: object, statuses: tuple[str, ...]) -> None:
    if status not in statuses:
        raise PlanError(f"{row}: there is no status {status!r}. Statuses: {', '.join(statuses)}.")


def _refuse_unknown(row: str, owner: str, names: tuple[str, ...], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise PlanError(f"{row}: the plan's {owner} has no array {name!r}. {near_names(name, known)}")


def compact_json(data: Mapping[str, object]) -> str:
    """JSON with one line for each row, so that a person can read, edit and compare it."""
    blocks = [f" {_line(key)}: {_block(value)}" for key, value in data.items()]
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _block(value: object) -> str:
    if isinstance(value, (list, tuple)) and value:
        return "[\n" + ",\n".join(f"  {_line(item)}" for item in value) + "\n ]"
    if isinstance(value, dict) and len(value) > 4:
        return "{\n" + ",\n".join(f"  {_line(name)}: {_line(item)}" for name, item in value.items()) + "\n }"
    return _line(value)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
