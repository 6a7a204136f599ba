"""What other kernels of the same kind say of a kernel's axes: where one fits only in another order, no equal-sided one
is believed as it is stored."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import Advice, PlanError
from regraft.operations.changes import Cast
from regraft.operations.operation import Shape
from regraft.operations.running import shape_after
from regraft.plans.adapting import in_turn, way_of_order
from regraft.plans.layers import KERNELS, ORIENTED, Layer
from regraft.plans.layouts import EMBEDDING, WEIGHT
from regraft.plans.parametrized import tensor_of
from regraft.plans.rows import Row

Order = tuple[int, ...]
# The orders in which frameworks store a kernel, by its rank: axis k of torch's is axis order[k] of theirs.
_ORDERS: dict[int, tuple[Order, ...]] = {
    2: ((1, 0),),
    3: ((2, 1, 0), (0, 2, 1), (1, 0, 2)),
    4: ((3, 2, 0, 1), (0, 3, 1, 2), (1, 0, 2, 3)),
    5: ((4, 3, 0, 1, 2), (0, 4, 1, 2, 3), (1, 0, 2, 3, 4)),
}
_KERNEL_NAMES = frozenset({*WEIGHT.split("|"), *EMBEDDING.split("|"), *KERNELS})


def doubt_orders(
    rows: Sequence[Row], layers: Mapping[str, Layer], settled: Mapping[str, str], layout: str | None
) -> tuple[Row, ...]:
    """The rows, where a kernel whose axes other kernels of the file call in question is a problem.

    layers    array → its layer
    settled   array → the method of `adapt` that the user chose for it
    """
    oriented = {name: layer for name, layer in layers.items() if layer.kind in ORIENTED}
    kernels = {row.name: _stored_shape(row, settled.get(row.name, "")) for row in rows if row.name in oriented}
    orders = _orders_by_kind(rows, layers, kernels)
    asked = kernels.keys() - settled.keys()
    return tuple(
        _doubted(row, kernels[row.name], layers[row.name], orders, layout) if row.name in asked else row for row in rows
    )


def _stored_shape(row: Row, method: str) -> Shape:
    """The shape of the source before the user's own order of axes; () where there is none."""
    if len(row.sources) != 1 or row.status in ("ambiguous", "missing"):
        return ()
    operations = [operation for operation in row.operations if not isinstance(operation, Cast)]
    if method:
        operations = operations[:-1]
        if len(in_turn(method)) > 1 or not method.startswith(("transposed", "axes")):
            return ()
    try:
        return shape_after(operations, row.source_shapes)
    except PlanError:
        return row.source_shapes[0]


def _orders_by_kind(
    rows: Sequence[Row], layers: Mapping[str, Layer], kernels: Mapping[str, Shape]
) -> dict[tuple[str, int], list[Order]]:
    """(kind of layer, rank) → the orders in which all kernels fit that do not fit as they are stored."""
    orders: dict[tuple[str, int], list[Order]] = defaultdict(list)
    for row in rows:
        stored = kernels.get(row.name, ())
        if stored and stored != row.target_shape:
            key = (_kind(layers[row.name]), len(stored))
            fitting = _fitting(stored, row.target_shape)
            orders[key] = _common(orders[key], fitting) or orders[key] or fitting
    return orders


def _kind(layer: Layer) -> str:
    """Convolutions of all kinds are stored alike."""
    return "conv" if layer.kind == "depthwise" else layer.kind


def _fitting(stored: Shape, target: Shape | None) -> list[Order]:
    return [order for order in _ORDERS.get(len(stored), ()) if tuple(stored[axis] for axis in order) == target]


def _common(orders: Sequence[Order], others: Sequence[Order]) -> list[Order]:
    return [order for order in orders if order in others]


def _doubted(
    row: Row, stored: Shape, layer: Layer, orders: Mapping[tuple[str, int], list[Order]], layout: str | None
) -> Row:
    fitting = _fitting(stored, row.target_shape)
    if not fitting:
        return row
    if row.status == "shape_mismatch":
        note = f"The source has the shape {stored}: the model's in another order of its axes."
        return replace(row, note=note, advice=(*_advice(row, fitting, is_open=False), *row.advice))
    if not row.is_reused:
        return row
    known = _common(orders.get((_kind(layer), len(stored)), []), fitting)
    if known:
        note = "Its shape fits in two orders of the axes, and other kernels of this kind in the file fit in one alone."
        return _open(row, note, known)
    if layout == "torch" and _is_bare(row, layer):
        note = "It is a parameter of its own on one side and a kernel on the other: the order of the axes is unknown."
        return _open(row, note, fitting)
    return row


def _is_bare(row: Row, layer: Layer) -> bool:
    """Whether a matrix of a name of its own fills a dense kernel, or the other way round: x @ W or x @ Wᵀ."""
    are_kernels = [_tensor(name) in _KERNEL_NAMES for name in (row.sources[0], row.name)]
    return layer.kind in ("dense", "other") and len(row.target_shape or ()) == 2 and are_kernels[0] != are_kernels[1]


def _tensor(name: str) -> str:
    """The last part of a name; of a part of a parametrized weight, as weight_norm's weight_v, the weight."""
    parts = name.replace("/", ".").split(".")
    return tensor_of(".".join(parts[-3:] if "parametrizations" in parts else parts[-1:]))


def _open(row: Row, note: str, orders: Sequence[Order]) -> Row:
    return replace(row, status="undecidable_orientation", note=note, advice=_advice(row, orders, is_open=True))


def _advice(row: Row, orders: Sequence[Order], *, is_open: bool) -> tuple[Advice, ...]:
    reorder = [Advice("adapt", {row.name: way_of_order(order)}, "put the axes in torch's order") for order in orders]
    keep = Advice("adapt", {row.name: "as stored"}, "keep the order of the axes")
    return (*reorder, keep) if is_open else tuple(reorder)
