"""The rows of a plan: every array of the model, then every array of the checkpoint that fills nothing."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from regraft.arrays import ArrayInfo
from regraft.errors import PlanError
from regraft.operations.changes import Cast
from regraft.operations.joins import Subtract
from regraft.operations.operation import Operation, Shape
from regraft.operations.running import shape_after
from regraft.plans.adapting import adapting_operations
from regraft.plans.layers import Layer, TargetArray
from regraft.plans.match_by_name import Pairing
from regraft.plans.rows import Row, Status


@dataclass(frozen=True)
class Wishes:
    """What the user chose, as names of the model's arrays.

    reuse   the arrays to restore; None: all, and each must have a source or be fresh
    fresh   the arrays that stay as initialised
    ways    array → way to adapt it
    """

    reuse: Collection[str] | None
    fresh: Collection[str]
    ways: Mapping[str, str]


_SCALES = ("_scale", "_scale_inv", "_scales", "_scale_2")  # how compressed models name an array's scales


def target_rows(
    layers: Sequence[Layer],
    pairings: Mapping[str, Pairing],
    infos: Mapping[str, ArrayInfo],
    wishes: Wishes,
    *,
    advice: str = "",
) -> tuple[Row, ...]:
    """One row for each array of the model.

    advice   said of arrays without a source
    """
    rows: dict[str, Row] = {}
    ties: dict[str, list[str]] = defaultdict(list)
    for layer in layers:
        for leaf, array in layer.arrays.items():
            name = layer.full(leaf)
            rows[name] = _target_row(layer, leaf, array, pairings.get(name), infos, wishes, advice)
            ties[array.tied_to or name].append(name)
    for names in ties.values():
        if len(names) > 1:
            rows.update(_tied_rows([rows[name] for name in names], wishes))
    return tuple(_used_once(rows, layers, ties))


def _target_row(
    layer: Layer,
    leaf: str,
    array: TargetArray,
    pairing: Pairing | None,
    infos: Mapping[str, ArrayInfo],
    wishes: Wishes,
    advice: str,
) -> Row:
    name = layer.full(leaf)
    row = Row(name, (), "kept_init", target_shape=array.shape, target_dtype=array.dtype)
    if name in wishes.fresh:
        return replace(row, note="declared fresh")
    if wishes.reuse is not None and name not in wishes.reuse:
        return row
    way = wishes.ways.get(name)
    if way in ("zeros", "ones"):
        pairing = Pairing(())
    if pairing is None:
        if leaf == "num_batches_tracked":
            return replace(row, note="a counter of training batches, which the source does not keep")
        return replace(row, status="missing", note=f"no array of the checkpoint belongs to it\n{advice}".strip())
    row = replace(
        row,
        sources=pairing.sources,
        source_shapes=tuple(infos[source].shape for source in pairing.sources),
        source_dtypes=tuple(infos[source].dtype for source in pairing.sources),
        operations=pairing.operations,
        note=pairing.note,
    )
    if pairing.problem and not (way or "").startswith(pairing.answers or ("no way",)):
        return replace(row, status=pairing.problem)
    codes = next((told for source in pairing.sources if (told := _codes(source, array, infos))), "")
    if codes and way is None:
        return replace(row, status="ambiguous", note=codes)
    return _fitted(row, layer, leaf, way)


def _codes(source: str, array: TargetArray, infos: Mapping[str, ArrayInfo]) -> str:
    """Why the source may hold codes of a quantised model, which a cast would take for weights; "" when it does not."""
    dtype = infos[source].dtype
    if not array.dtype.startswith(("float", "bfloat", "complex")) or array.dtype == dtype:
        return ""
    scale = next((source + end for end in _SCALES if source + end in infos), None)
    if "int" not in dtype and not (dtype.startswith(("float8", "float4")) and scale):
        return ""
    told = f"and {scale} scales them" if scale else "and nothing in the file tells what they stand for"
    return (
        f"The source holds {dtype} numbers {told}: codes of a quantised model, most likely, and no weights.\n"
        'Take the checkpoint from before it was quantised; or say adapt={"…": "as stored"} to take them as numbers.'
    )


def _fitted(row: Row, layer: Layer, leaf: str, way: str | None) -> Row:
    """The row with adaptation and cast added, or with the problem that it does not fit."""
    assert row.target is not None, "our bug: a source row cannot be fitted"
    assert row.target_shape is not None, "our bug: a target without a shape"
    try:
        operations, is_adapted = row.operations, False
        if way is not None:
            came = shape_after(operations, row.source_shapes) if row.sources else row.target_shape
            added = adapting_operations(way, came, row.target_shape)
            is_adapted = added is not None
            operations = (*operations, *(added or ()))
        got = shape_after(operations, row.source_shapes)
    except PlanError as error:
        return replace(row, status="shape_mismatch", note=f"{error}")
    if got != row.target_shape:
        return replace(row, status="shape_mismatch", operations=operations, note=_misfit(layer, leaf, row, got))
    if set(row.source_dtypes) - {row.target_dtype}:
        operations = (*operations, Cast(row.target_dtype))
    return replace(row, status=_status(row, operations, is_adapted), operations=operations, note=_told(row, way))


def _told(row: Row, way: str | None) -> str:
    return f"adapted as asked: {way}" if way is not None else row.note


def _status(row: Row, operations: tuple[Operation, ...], is_adapted: bool) -> Status:
    if is_adapted or any(isinstance(operation, Subtract) for operation in operations):
        return "adapted"
    if any(not isinstance(operation, Cast) for operation in operations):
        return "converted"
    if operations:
        return "cast"
    return "exact" if row.sources == (row.target,) else "renamed"


def _misfit(layer: Layer, leaf: str, row: Row, got: Shape) -> str:
    """What the shapes tell, and what to do."""
    assert row.target_shape is not None, "our bug: a target without a shape"
    target = row.target_shape
    out = f'Leave it out with fresh=["{layer.name or leaf}"]'
    after = f"The source comes out as {got}, the model takes {target}."
    if layer.kind == "conv" and leaf == "weight" and len(got) == len(target) and got[0] == target[0]:
        if got[2:] == target[2:]:
            way = "sum" if target[1] == 1 else "repeat"
            return (
                f"The checkpoint was trained on {_channels(got[1])}, the model takes {target[1]}.\n"
                f'{out}, or adapt={{"{layer.name}": "{way}"}}: see how-to/channels.'
            )
        return f"{after}\nThe kernels have other sizes. {out}."
    if "pos" in leaf.lower() + layer.name.lower() and len(got) == len(target) > 1 and got[-1] == target[-1]:
        name = layer.full(leaf)
        return f'{after}\nA table of other positions: adapt={{"{name}": "bicubic"}} (images) or "linear" (texts).'
    if len(got) == len(target) and got[1:] == target[1:]:
        some = 'adapt={"…": "first rows"} keeps the first' if got[0] < target[0] else "choose some"
        return f"{after}\nAnother number of outputs, as for other classes: {out}, or {some}: see how-to/channels."
    return f"{after}\n{out}, or say which source belongs here with a rename rule."


def _channels(count: int) -> str:
    return f"{count} input channel{'s' * (count != 1)}"


def _tied_rows(rows: Sequence[Row], wishes: Wishes) -> dict[str, Row]:
    """The rows of one tensor with several names: they must be filled alike."""
    leader = next((row for row in rows if row.is_reused), None)
    if leader is None:
        return {}
    tied = {}
    for row in rows:
        if row is leader or row.target is None:
            continue
        if row.target in wishes.fresh or (leader.target in wishes.fresh):
            note = f"It is the same tensor as {leader.target}, which is reused: declare both fresh, or none."
            tied[row.target] = replace(row, status="tied_conflict", note=note)
        elif row.is_reused and row.sources != leader.sources:
            tied[row.target] = replace(row, note=f"the same tensor as {leader.target}: both sources must be equal")
        else:
            note = f"the same tensor as {leader.target}"
            tied[row.target] = replace(leader, target=row.target, note=note)
    return tied


def _used_once(rows: Mapping[str, Row], layers: Sequence[Layer], ties: Mapping[str, Sequence[str]]) -> list[Row]:
    """The rows, where a source that fills arrays of two layers which are no tied ones is a problem of both."""
    first_name = {name: first for first, names in ties.items() for name in names}
    owner = {layer.full(leaf): first_name[layer.full(leaf)] for layer in layers for leaf in layer.arrays}
    owner = {name: first.rpartition(".")[0] for name, first in owner.items()}
    takers: dict[str, set[str]] = defaultdict(set)
    for name, row in rows.items():
        for source in row.sources:
            takers[source].add(owner[name])
    twice = {source for source, names in takers.items() if len(names) > 1}
    return [
        replace(row, status="ambiguous", note="Its source fits other layers too: tell them apart with rename rules.")
        if row.is_reused and twice & set(row.sources)
        else row
        for row in rows.values()
    ]


def source_rows(
    infos: Mapping[str, ArrayInfo],
    usable: Collection[str],
    rows: Sequence[Row],
    pairings: Mapping[str, Pairing],
) -> tuple[Row, ...]:
    """One row for each array of the checkpoint that no row of a target names."""
    used = {source for row in rows for source in row.sources}
    meant_for = {source: target for target, pairing in pairings.items() for source in pairing.sources}
    told = []
    for name, info in infos.items():
        if name in used:
            continue
        row = Row(None, (name,), "unused", source_shapes=(info.shape,), source_dtypes=(info.dtype,))
        if name not in usable:
            told.append(replace(row, status="optimizer_slot", note=_ROLES.get(info.role, info.role)))
        elif name in meant_for:
            told.append(replace(row, status="excluded", note=f"belongs to {meant_for[name]}, which is not restored"))
        else:
            told.append(row)
    return tuple(told)


_ROLES = {
    "optimizer_slot": "of the optimiser",
    "ema": "a moving average: ema=True uses it",
    "counter": "a counter",
    "constant": "a constant of the graph",
    "weight": "replaced by its moving average",
}
