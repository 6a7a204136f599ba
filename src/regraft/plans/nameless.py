"""Arrays that have numbers for names, as a list of Theano's parameters: named by their order, for a known layout."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from regraft.errors import Advice
from regraft.foundation.wording import counted
from regraft.plans.layers import ORIENTED, Layer
from regraft.plans.rows import Row
from regraft.plans.sources import Sources

# "3", "arr_3" (NumPy's own), "2.0" (the first array of the third list), "W1" and "b1".
_NUMBERED = re.compile(r"(?:arr_|param_?)?(?P<place>\d+(?:\.\d+)*)")
_LETTERED = re.compile(r"(?P<letter>[Wwb])_?(?P<place>\d+)")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# Whose lists have a norm's scale, shift, mean and variance in this order; Lasagne's have others, and 1/σ.
_ORDERED_NORMS = frozenset({"torch", "tensorflow", "mxnet", "paddle"})
_CELLS = {"tensorflow": ("kernel", "recurrent_kernel", "bias")}
_SIMPLE = frozenset({"dense", "conv", "depthwise", "conv_transpose", "norm", "embedding", "prelu"})


def are_nameless(sources: Sources) -> bool:
    """Whether no array has a name that a user's rule has not given it."""
    names = sources.names.keys() - sources.renamed
    return bool(names) and all(_place(name) and not sources.infos[name].leaf for name in names)


def named_by_order(sources: Sources, layers: Sequence[Layer], left_out: Collection[str]) -> Sources:
    """The sources, named as the arrays of the model in whose order they stand; unchanged where that is not certain.

    left_out   the arrays of the model that are not restored
    """
    if sources.layout is None or not are_nameless(sources):
        return sources
    names = sorted(sources.names.keys() - sources.renamed, key=_place)
    targets = next((targets for targets in _possible(layers, sources, left_out) if len(targets) == len(names)), None)
    if targets is None:
        return sources
    note = f"{counted(len(names), 'array')} without names: matched in order, in the layout of {sources.layout}"
    named = {name: (target,) for name, target in zip(names, targets, strict=True)}
    return replace(
        sources, names={**sources.names, **named}, renamed=sources.renamed | named.keys(), notes=(*sources.notes, note)
    )


def _place(name: str) -> tuple[int, ...]:
    """Where an array stands in the list; () for a name that says more."""
    numbered, lettered = _NUMBERED.fullmatch(name), _LETTERED.fullmatch(name)
    if numbered:
        return tuple(map(int, numbered["place"].split(".")))
    return (int(lettered["place"]), int(lettered["letter"] == "b")) if lettered else ()


def _possible(layers: Sequence[Layer], sources: Sources, left_out: Collection[str]) -> Iterator[list[str]]:
    """The lists of the model's arrays that a file of this layout may follow: all, without counters, only parameters."""
    every: list[tuple[Layer, str]] = []
    for layer in layers:
        leaves = _leaves(sources.layout or "", layer)
        if not leaves:
            return
        every += [(layer, leaf) for leaf in leaves]
    for pairs in (every, [pair for pair in every if _array_of(*pair) not in left_out]):
        for is_listed in (lambda layer, leaf: True, lambda layer, leaf: leaf != "num_batches_tracked", _is_parameter):
            yield [layer.full(leaf) for layer, leaf in pairs if is_listed(layer, leaf)]


def _array_of(layer: Layer, leaf: str) -> str:
    """The array of ours that a leaf of theirs fills: of a recurrent layer, all of it."""
    return layer.full(leaf if leaf in layer.arrays else next(iter(layer.arrays)))


def _is_parameter(layer: Layer, leaf: str) -> bool:
    return leaf in layer.arrays and not layer.arrays[leaf].is_buffer


def _leaves(layout: str, layer: Layer) -> Sequence[str]:
    """The layer's arrays in the order in which lists of this layout have them; none where that is not known."""
    if layout == "torch":
        return list(layer.arrays)
    if layer.kind in _SIMPLE:
        return [leaf for leaf in ("weight", "bias") if leaf in layer.arrays]
    if layer.kind == "batch_norm" and layout in _ORDERED_NORMS:
        return [leaf for leaf in _STATISTICS if leaf in layer.arrays]
    return _CELLS.get(layout, ()) if layer.kind in ("lstm", "gru", "rnn") and len(layer.arrays) == 4 else ()


def doubt_squares(
    rows: Sequence[Row], layers: Mapping[str, Layer], settled: Mapping[str, str], layout: str | None
) -> tuple[Row, ...]:
    """The rows of sources without names; where no kernel with unequal sides confirms layout and order, all are asked.

    A list may be transposed, and Theano's tutorials list the last layer first: with equal sides all of these fit.

    settled   array → the method of `adapt` that the user chose for it
    """
    kernels = [row for row in rows if _is_kernel(row, layers)]
    if any(_sides(row) != _sides(row)[::-1] for row in kernels):
        return tuple(rows)
    asked = {row.name for row in kernels} - settled.keys()
    return tuple(_open(row, layout) if row.name in asked else row for row in rows)


def _is_kernel(row: Row, layers: Mapping[str, Layer]) -> bool:
    is_whole = row.is_reused and len(row.sources) == 1 and row.name in layers
    return is_whole and layers[row.name].kind in ORIENTED and len(row.target_shape or ()) > 1


def _sides(row: Row) -> tuple[int, ...]:
    return (row.target_shape or ())[:2]


def _open(row: Row, layout: str | None) -> Row:
    note = (
        "The arrays have no names, and every kernel has equal sides: neither the order of the axes nor that of the "
        "layers shows."
    )
    keep = Advice("adapt", {row.name: "as stored"}, f"keep the order of the list, and the axis order of {layout}")
    return replace(row, status="undecidable_orientation", note=note, advice=(keep,))
