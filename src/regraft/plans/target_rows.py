"""The rows of a plan: every array of the model, then every array of the checkpoint that fills nothing."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from regraft.arrays import ArrayInfo
from regraft.errors import Advice, PlanError
from regraft.foundation.wording import counted
from regraft.operations.changes import Cast
from regraft.operations.joins import Subtract
from regraft.operations.moves import Transpose
from regraft.operations.operation import Operation, Shape
from regraft.operations.running import shape_after
from regraft.plans.absence import Absence
from regraft.plans.adapting import adapting_operations, in_turn
from regraft.plans.layers import Layer, TargetArray, layers_by_array
from regraft.plans.match_by_name import Pairing
from regraft.plans.rows import Row, Status


@dataclass(frozen=True)
class Choices:
    """What the user chose, as names of the model's arrays.

    reuse   the arrays to restore; None: all, and each must have a source or be fresh
    fresh   the arrays that stay as initialised
    methods    array → method to adapt it
    """

    reuse: Collection[str] | None
    fresh: Collection[str]
    methods: Mapping[str, str]

    def left_out(self, targets: Collection[str]) -> set[str]:
        """Those of the model's arrays that are not restored."""
        return {name for name in targets if name in self.fresh or not (self.reuse is None or name in self.reuse)}


_SCALES = ("_scale", "_scale_inv", "_scales", "_scale_2")  # how compressed models name an array's scales
_KEEP = "keep the initial weights"


def target_rows(
    layers: Sequence[Layer],
    pairings: Mapping[str, Pairing],
    infos: Mapping[str, ArrayInfo],
    choices: Choices,
    *,
    absence: Absence | None = None,
    shared: bool = False,
) -> tuple[Row, ...]:
    """One row for each array of the model.

    absence   what is said of arrays without a source
    shared    whether a source may fill arrays of several layers, because the file itself has them share it
    """
    rows: dict[str, Row] = {}
    ties: dict[str, list[str]] = defaultdict(list)
    for name, layer in layers_by_array(layers).items():
        leaf = name.removeprefix(layer.full(""))
        target = _Target(layer, leaf, layer.arrays[leaf], choices.methods.get(name))
        rows[name] = _chosen(target, choices) or _paired(target, pairings.get(name), infos, absence or Absence())
        ties[target.array.tied_to or name].append(name)
    for names in ties.values():
        rows.update(_tied_rows([rows[name] for name in names], choices))
    return tuple(rows.values() if shared else _used_once(rows, ties, pairings))


@dataclass(frozen=True)
class _Target:
    """One array of the model: its layer, its name there, what it is, and the method to adapt it."""

    layer: Layer
    leaf: str
    array: TargetArray
    method: str | None

    @property
    def name(self) -> str:
        return self.layer.full(self.leaf)

    def row(self, status: Status, note: str = "", advice: tuple[Advice, ...] = ()) -> Row:
        """A row without sources."""
        shape, dtype = self.array.shape, self.array.dtype
        return Row(self.name, (), status, target_shape=shape, target_dtype=dtype, note=note, advice=advice)

    def adapted(self, method: str, effect: str) -> Advice:
        return Advice("adapt", {self.name: method}, effect)

    def is_kernel(self) -> bool:
        """Whether it is the kernel of a convolution."""
        return self.layer.kind == "conv" and self.leaf == "weight"

    def kept(self) -> Advice:
        """Leave the array, or its whole layer, as it is."""
        whole = self.name if self.layer.kind == "other" else self.layer.name or self.leaf
        return Advice("fresh", [whole], _KEEP)


def _chosen(target: _Target, choices: Choices) -> Row | None:
    """The row of an array that the user does not restore."""
    if target.name in choices.fresh:
        return target.row("kept_init", "declared fresh")
    is_left_out = choices.reuse is not None and target.name not in choices.reuse
    return target.row("kept_init") if is_left_out else None


def _paired(target: _Target, pairing: Pairing | None, infos: Mapping[str, ArrayInfo], absence: Absence) -> Row:
    """The row of an array that is to be restored."""
    if target.method in ("zeros", "ones"):
        pairing = Pairing(())
    if pairing is None:
        return _missing(target, absence)
    row = replace(
        target.row("missing", pairing.note),
        sources=pairing.sources,
        source_shapes=tuple(infos[source].shape for source in pairing.sources),
        source_dtypes=tuple(infos[source].dtype for source in pairing.sources),
        operations=pairing.operations,
    )
    if pairing.problem and not pairing.is_settled_by(target.method):
        return replace(row, status=pairing.problem, advice=pairing.advice)
    codes = [text for source in pairing.sources if (text := _codes(source, target.array, infos))]
    if codes and target.method is None:
        as_numbers = target.adapted("as stored", "use the stored numbers as they are")
        return replace(row, status="ambiguous", note=codes[0], advice=(as_numbers,))
    return _fitted(row, target, pairing.share)


def _missing(target: _Target, absence: Absence) -> Row:
    if target.leaf == "num_batches_tracked":
        return target.row("kept_init", "a counter of training batches, which the source does not have")
    note = f"no array in the checkpoint matches this one\n{absence.note}".strip()
    return target.row("missing", note, (*absence.advice, Advice("fresh", [target.name], _KEEP)))


def _codes(source: str, array: TargetArray, infos: Mapping[str, ArrayInfo]) -> str:
    """Why the source may hold codes of a quantised model, which a cast would take for weights; "" when it does not."""
    dtype = infos[source].dtype
    if dtype.startswith("complex") and not array.dtype.startswith("complex"):
        return f"The source holds {dtype} numbers, whose imaginary parts a cast would drop."
    scales = [source + end for end in _SCALES if source + end in infos]
    are_numbers = array.dtype == dtype or not array.dtype.startswith(("float", "bfloat", "complex"))
    if are_numbers or not dtype.startswith(("int", "uint", "float8", "float4") if scales else ("int", "uint", "bool")):
        return ""
    origin = f"{scales[0]} scales them" if scales else "the file does not record what they stand for"
    return (
        f"The source holds {dtype} numbers, and {origin}: most likely codes of a quantised model, not weights.\n"
        "Take the checkpoint from before it was quantised."
    )


def _fitted(row: Row, target: _Target, share: tuple[int, int]) -> Row:
    """The row with adaptation and cast added, or with the problem that it does not fit."""
    try:
        added = _adaptation(row, target)
        operations = (*row.operations, *(added or ()))
        got = shape_after(operations, row.source_shapes)
    except PlanError as error:
        return replace(row, status="shape_mismatch", note=error.text, advice=error.advice)
    if got != row.target_shape:
        note, advice = _misfit_of_part(target, got, share) or _misfit(target, got)
        return replace(row, status="shape_mismatch", operations=operations, note=note, advice=advice)
    if set(row.source_dtypes) - {row.target_dtype}:
        operations = (*operations, Cast(row.target_dtype))
    status = _status(row, operations, is_adapted=added is not None)
    note = row.note if target.method is None else f"adapted as requested: {target.method}"
    return replace(row, status=status, operations=operations, note=note)


def _adaptation(row: Row, target: _Target) -> tuple[Operation, ...] | None:
    if target.method is None:
        return None
    if "transposed" in in_turn(target.method) and any(isinstance(operation, Transpose) for operation in row.operations):
        raise PlanError(
            f'The layout puts the axes in torch\'s order already ({row.work()}): "transposed" would undo it.'
        )
    came = shape_after(row.operations, row.source_shapes) if row.sources else target.array.shape
    return adapting_operations(target.method, came, target.array.shape)


def _status(row: Row, operations: tuple[Operation, ...], *, is_adapted: bool) -> Status:
    kinds = set(map(type, operations))
    if is_adapted or Subtract in kinds:
        return "adapted"
    if kinds:
        return "cast" if kinds == {Cast} else "converted"
    return "exact" if row.sources == (row.target,) else "renamed"


def _misfit_of_part(target: _Target, got: Shape, share: tuple[int, int]) -> tuple[str, tuple[Advice, ...]] | None:
    """For one of the layers that a rule gives one source to, where that is longer than the layer takes."""
    shape, (index, count) = target.array.shape, share
    if count == 1 or len(got) != len(shape) or not shape or got[0] <= shape[0]:
        return None
    after = f"The source has the shape {got} after all operations, the model takes {shape}."
    note = f"{after}\nA rename rule gives it to {count} layers: which rows belong to this one is not recorded."
    if got[0] != count * shape[0]:
        return note, (target.adapted("rows START:STOP", "take these rows, counted from 0"), target.kept())
    part = f"part {index + 1} of {count}"
    inside = target.adapted(f"{part} in HEADS heads", "take these rows of each head, where every head has its parts")
    return note, (target.adapted(part, f"take these rows, where the {count} parts follow each other"), inside)


def _misfit(target: _Target, got: Shape) -> tuple[str, tuple[Advice, ...]]:
    """(what the shapes show, what solves it)."""
    shape = target.array.shape
    after = f"The source has the shape {got} after all operations, the model takes {shape}."
    if 0 in got:
        more = (
            "DeepSpeed's ZeRO-3 leaves such arrays where each process holds a part: convert with its zero_to_fp32.py."
        )
        return f"The source is empty, {got}. {more}", (target.kept(),)
    if len(got) != len(shape) or not shape:
        return f"{after}\nMap another source with a rename rule (docs/how-to/rename.md).", (target.kept(),)
    if target.is_kernel() and got[0] == shape[0]:
        return _misfit_of_convolution(target, got, after)
    if "pos" in target.name.lower() and got[1:] and got[-1] == shape[-1]:
        images = target.adapted("bicubic", "resize a table of image positions")
        texts = target.adapted("linear", "resize a table of text positions")
        return f"{after}\nThe number of positions differs.", (images, texts)
    if got[1:] == shape[1:]:
        return _misfit_of_outputs(target, got, after)
    return f"{after}\nMap another source with a rename rule (docs/how-to/rename.md).", (target.kept(),)


def _misfit_of_outputs(target: _Target, got: Shape, after: str) -> tuple[str, tuple[Advice, ...]]:
    note = f"{after}\nThe number of outputs differs, as for other classes."
    if got[0] > target.array.shape[0]:
        return f"{note} Some rows of the source can be chosen: see docs/how-to/channels.md.", (target.kept(),)
    return note, (target.kept(), target.adapted("first rows", "fill the first rows, and keep the others as they are"))


def _misfit_of_convolution(target: _Target, got: Shape, after: str) -> tuple[str, tuple[Advice, ...]]:
    shape = target.array.shape
    if got[2:] != shape[2:]:
        return f"{after}\nThe kernels have other sizes.", (target.kept(),)
    note = (
        f"The checkpoint was trained on {counted(got[1], 'input channel')}, the model takes {shape[1]}.\n"
        "See docs/how-to/channels.md."
    )
    if shape[1] == 1:
        methods = {"sum": "sum the input channels"}
    else:
        methods = {"repeat": "repeat the input channels"}
        if got[1] < shape[1]:
            methods["first channels"] = "keep the input channels, with zeros for the others"
    advice = [Advice("adapt", {target.layer.name: method}, effect) for method, effect in methods.items()]
    return note, (*advice, target.kept())


def _tied_rows(rows: Sequence[Row], choices: Choices) -> dict[str, Row]:
    """The rows of one tensor with several names: they must be filled alike."""
    leader = next((row for row in rows if row.is_reused), None)
    if leader is None:
        return {}
    return {row.name: leader if row is leader else _tied(row, leader, choices) for row in rows}


def _tied(row: Row, leader: Row, choices: Choices) -> Row:
    same = f"the same tensor as {leader.target}"
    if row.target in choices.fresh or leader.target in choices.fresh:
        note = f"It is {same}, which is reused: declare both fresh, or none."
        return replace(row, status="tied_conflict", note=note)
    if row.is_reused and row.sources != leader.sources:
        return replace(row, note=f"{same}: both sources must be equal")
    return replace(leader, target=row.target, note=same)


def _used_once(
    rows: Mapping[str, Row], ties: Mapping[str, Sequence[str]], pairings: Mapping[str, Pairing]
) -> list[Row]:
    """The rows, where a source that fills arrays of two layers is a problem of both: no tied ones, by no rule."""
    layers = {name: first.rpartition(".")[0] for first, names in ties.items() for name in names}
    shared = [name for name, pairing in pairings.items() if pairing.share[1] > 1]
    certain = [name for name in rows.keys() - shared if rows[name].status != "ambiguous"]
    takers = {(source, layers[name]) for name in certain for source in rows[name].sources}
    counts = Counter(source for source, _ in takers)
    return [_refused_if_shared(row, counts) for row in rows.values()]


def _refused_if_shared(row: Row, takers: Mapping[str, int]) -> Row:
    """The row, a problem where one of its sources has several takers."""
    if not row.is_reused or all(takers.get(source, 0) < 2 for source in row.sources):
        return row
    note = "Its source matches other layers too. Map each source to one layer (docs/how-to/rename.md)."
    return replace(row, status="ambiguous", note=note)


def source_rows(
    infos: Mapping[str, ArrayInfo],
    usable: Collection[str],
    rows: Sequence[Row],
    pairings: Mapping[str, Pairing],
) -> tuple[Row, ...]:
    """One row for each array of the checkpoint that no row of a target names."""
    used = {source for row in rows for source in row.sources}
    meant_for = {source: target for target, pairing in pairings.items() for source in pairing.sources}
    return tuple(
        _source_row(name, info, meant_for.get(name), is_usable=name in usable)
        for name, info in infos.items()
        if name not in used
    )


def _source_row(name: str, info: ArrayInfo, target: str | None, *, is_usable: bool) -> Row:
    row = Row(None, (name,), "unused", source_shapes=(info.shape,), source_dtypes=(info.dtype,))
    if not is_usable:
        return replace(row, status="optimizer_slot", note=_ROLES.get(info.role, info.role))
    return (
        row
        if target is None
        else replace(row, status="excluded", note=f"source of {target}, which keeps its initial weights")
    )


_ROLES = {
    "optimizer_slot": "of the optimiser",
    "ema": "a moving average",
    "counter": "a counter",
    "constant": "a constant of the graph",
    "weight": "replaced by its moving average",
}
