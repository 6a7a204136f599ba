"""The cut as the user sees it: which tensors cross from trunk to head, what they weigh, what they save."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch

from regraft.cuts.beside import Mean
from regraft.cuts.choosing import Choice
from regraft.cuts.dataflow import trained_values
from regraft.cuts.record import Record, RecordedOperation
from regraft.cuts.sizes import ROWS, Size, Sizes
from regraft.foundation.showing import html_table
from regraft.foundation.wording import counted, share_text


@dataclass(frozen=True)
class Leaf:
    """One tensor that crosses from trunk to head.

    name    of the layer that gives it ("layer3"; "layer3#2" for its next call or output), or "input:x"
    shape   of one example, without the batch
    varying the dimensions of `shape` that another length of the inputs makes longer or shorter
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes_per_example: int
    varying: tuple[int, ...] = ()

    @property
    def sizes(self) -> list[int | None]:
        """The shape; None where the length of the inputs decides, so that examples of any length mean the same leaf."""
        return [None if axis in self.varying else size for axis, size in enumerate(self.shape)]


# Two computations of a row may differ by so many times what was measured, for that is the largest of a few hundred
# values: of 10⁹ values of a normal distribution the largest is twice as large, and other examples have sums with larger
# terms (rounding is relative to the terms, not to what remains of them).
ROUNDING_MARGIN = 10


@dataclass(frozen=True, repr=False)
class Cut:
    """What crosses from trunk to head; prints as a table.

    work_saved    the part of the forward's multiply-adds that lies in the trunk, 0 to 1
    by_row        whether every leaf has one row per example that does not depend on the others of its batch; otherwise
                  the features hold for their batch as a whole, and cannot be cached by example
    row_rounding  0.0 where a row of the example had the same bits at every index of a batch; else the largest
                  difference, relative to the value. Measured on this processor with this number of threads: by `split`
                  in batches of the example's size and 64 rows, by `cache_features` for its own batch size (sizes other
                  than the example's where that takes less than 0.1 s)
    """

    leaves: tuple[Leaf, ...]
    work_saved: float
    by_row: bool = True
    note: str = ""
    row_rounding: float = 0.0

    def __repr__(self) -> str:
        leaves = ", ".join(f"{leaf.name} {_shape_text(leaf)}" for leaf in self.leaves)
        return f"<Cut: {leaves or 'nothing crosses'}; {self.bytes_per_example:,} bytes per example>"

    def _repr_html_(self) -> str:
        rows = [
            (leaf.name, _shape_text(leaf), str(leaf.dtype).removeprefix("torch."), f"{leaf.bytes_per_example:,}")
            for leaf in self.leaves
        ]
        caption = str(self).splitlines()[-1]
        return html_table(caption, ("tensor", "shape of one example", "type", "bytes per example"), rows)

    @property
    def bytes_per_example(self) -> int:
        """Bytes of one example's features."""
        return sum(leaf.bytes_per_example for leaf in self.leaves)

    @property
    def row_tolerance(self) -> float:
        """How far two computations of a row may differ, relative to its values; 0.0 for not by a bit."""
        return ROUNDING_MARGIN * self.row_rounding

    @property
    def rounding_note(self) -> str:
        """A sentence on rows that are rounded by their index in the batch; "" where none is."""
        if not self.row_rounding:
            return ""
        return (
            f"This processor rounds a row by its index in the batch: values change by up to {self.row_rounding:.1g} of "
            f"their size. Rows of other batches are equal within {self.row_tolerance:.1g}, not bit for bit."
        )

    def __str__(self) -> str:
        width = max([len(leaf.name) for leaf in self.leaves] + [7])
        lines = [
            f"{leaf.name:<{width}}  {_shape_text(leaf):<16} {str(leaf.dtype).removeprefix('torch.'):<9}"
            f" {leaf.bytes_per_example:>12,} bytes"
            for leaf in self.leaves
        ]
        total = f"{counted(len(self.leaves), 'tensor', 'crosses/cross')}: {counted(self.bytes_per_example, 'byte')} per"
        lines.append(f"{total} example, {share_text(self.work_saved)} of the forward's work saved")
        return "\n".join([*lines, *filter(None, (self.note, self.rounding_note))])


def describe_cut(record: Record, sizes: Sizes, choice: Choice, *, by_row: bool) -> Cut:
    """The choice as the user sees it."""
    leaves = tuple(
        _averaged(_leaf(record, sizes, name, value, by_row=by_row), choice.means.get(name))
        for name, value in choice.leaves.items()
    )
    total, in_head = _flops(record.operations), _flops(record.operations[index] for index in choice.repeated)
    return Cut(leaves, 1 - in_head / total if total else 0.0, by_row, _note(record, choice, by_row=by_row))


def _leaf(record: Record, sizes: Sizes, name: str, index: int, *, by_row: bool) -> Leaf:
    """A leaf, whose shape is that of one example where it has rows."""
    value, row_axis = record.values[index], sizes.rows(index)
    shape: list[int | Size | None] = [*sizes.shapes[index]]
    now: list[int] = [*value.shape]
    rows = 1
    if by_row and row_axis is not None:
        (axis, each), rows = row_axis, max(1, sizes.example[ROWS])
        merged = shape[axis]
        if isinstance(merged, Size) and len(merged.times) > 1:  # of examples and positions the positions stay
            shape[axis] = replace(merged, times=tuple(symbol for symbol in merged.times if symbol != ROWS))
            now[axis] //= rows
        else:
            shape[axis : axis + 1] = now[axis : axis + 1] = [each] if each != 1 else []
    varying = tuple(axis for axis, size in enumerate(shape) if isinstance(size, Size))
    return Leaf(name, tuple(now), value.dtype, value.size_bytes // rows, varying)


def _averaged(leaf: Leaf, mean: Mean | None) -> Leaf:
    """The leaf after the mean over its positions."""
    if mean is None:
        return leaf
    shape = tuple(mean.kept(leaf.shape))
    kept = mean.kept(range(len(leaf.shape)))
    varying = tuple(kept.index(axis) for axis in leaf.varying if axis in kept)
    return replace(leaf, shape=shape, bytes_per_example=prod(shape) * leaf.dtype.itemsize, varying=varying)


def _note(record: Record, choice: Choice, *, by_row: bool) -> str:
    """What the user should know of this cut."""
    if record.calls[0].index in choice.skipped:
        return "Everything is frozen: the cut is the output, and the head has nothing to train."
    unfrozen = unfrozen_note(record, choice.repeated)
    notes = [unfrozen] if unfrozen else []
    if not by_row:
        notes.append(
            "These features belong to their batch as a whole: they have no row for each example, or mix the examples."
        )
    elif all(name.startswith("input:") for name in choice.leaves) and not unfrozen:
        notes.append("Nothing costly is frozen below the first trainable layer: the cut is the inputs themselves.")
    return "\n".join(notes)


def tied_note(record: Record, names: Mapping[str, Sequence[str]]) -> str:
    """A sentence for frozen layers that run in the head because of a tied parameter before them; else empty.

    names  all names of each parameter in the model, by the first
    """
    tied = [name for name in _first_trained(record) if len(names[name]) > 1]
    if not tied or all(value.is_trainable for value in record.values if value.kind == "parameter"):
        return ""
    return (
        f"{' and '.join(names[tied[0]])} are one tied parameter, and it is trainable: all that comes after its first "
        "use runs in the head.\nFreeze it, or untie the weights (`tie_word_embeddings=False` in transformers)."
    )


def _first_trained(record: Record) -> list[str]:
    """The trainable parameters that the first operation to read any of them reads."""
    for operation in record.operations:
        trained = [value.name for value in map(record.values.__getitem__, operation.inputs) if value.is_trainable]
        if trained:
            return trained
    return []


def gradient_note(names: Sequence[str]) -> str:
    """A sentence on trainable parameters that get no gradient in the model itself; empty without such."""
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (
        f"The model itself gives no gradient to {', '.join(names[:5])}{more}: the layer is not used on the example, or "
        "gradient checkpointing with `use_reentrant=True` follows frozen layers. Such parameters are not trained."
    )


def unfrozen_note(record: Record, repeated: Collection[int]) -> str:
    """A sentence that names unfrozen layers for which frozen ones behind them stay in the head; else empty.

    Such a layer draws random numbers or changes its state.

    repeated  the operations that the head runs
    """
    trained = trained_values(record)
    in_head = [op for op in record.operations if op.index in repeated and trained.isdisjoint(op.inputs)]
    layers = list(dict.fromkeys(map(record.layer_of, _causes(in_head))))
    if not layers or "" in layers:  # the model's own forward cannot be frozen
        return ""
    share = _flops(in_head) / _flops(record.operations)
    return (
        f"{share:.1%} of the forward's work stays in the head although its layers are frozen: layers before them draw "
        "random numbers or change state, and are not frozen.\n"
        f"To compute it once, freeze these too: freeze(model, {layers!r})."
    )


def _causes(in_head: Sequence[RecordedOperation]) -> list[RecordedOperation]:
    """Those of the operations that draw random numbers or change state before work that could be cached."""
    last = max((operation.index for operation in in_head if operation.flops), default=0)
    return [op for op in in_head if op.index < last and (op.is_random or op.is_stateful)]


def _flops(operations: Iterable[RecordedOperation]) -> int:
    return sum(operation.flops for operation in operations)


def _shape_text(leaf: Leaf) -> str:
    """`256 × 14 × 14`; a size that varies has a star: `128* × 768`."""
    sizes = [f"{size}{'*' * (axis in leaf.varying)}" for axis, size in enumerate(leaf.shape)]
    return " × ".join(sizes) or "scalar"
