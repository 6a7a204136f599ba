"""Which of their layers is which of ours when names differ: by the wiring of both networks, else by order and words."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from regraft.errors import Advice
from regraft.foundation.patterns import exact_pattern
from regraft.foundation.wording import counted
from regraft.operations.moves import Reshape
from regraft.operations.operation import Operation
from regraft.plans.graphs import Expression, Graph, LayerNode, Matches, bare, combined, match_graphs, stepped
from regraft.plans.layers import Layer
from regraft.plans.layouts import OURS
from regraft.plans.match_by_name import CHANNELS_LAST, Pairing, Pairings, pair_layer, suspected_flattening
from regraft.plans.match_by_order import match_orders, natural, same_names, same_place
from regraft.plans.module_graph import Traced
from regraft.plans.recurrent_layouts import Facts
from regraft.plans.renaming import dotted
from regraft.plans.signatures import kind_of_signature, signature_of, source_signature
from regraft.plans.sources import JOINS, Sources, Wiring, parent_of
from regraft.plans.steps import Step, Unknown

_BY = "matched by structure"
_UNTRACED = "the model's forward cannot be traced"
_UNRECORDED = "the file does not record how the layers are connected"


@dataclass(frozen=True)
class _Group:
    """The arrays of one source layer: leaf → array."""

    arrays: Mapping[str, str]
    signature: Hashable | None


def pair_by_structure(layers: Sequence[Layer], sources: Sources, ours: Traced | None) -> Pairings:
    """Pair layers by kind, shape and surroundings together; what fits several ways is ambiguous, never guessed.

    ours   the wiring of the model, None when its forward cannot be traced
    """
    signatures = _signatures(layers, are_kinds_known=any(info.layer_type for info in sources.infos.values()))
    groups = _in_order_of_numbers(sources, _groups(sources))
    theirs = {name: group.signature for name, group in groups.items() if group.signature is not None}
    wiring = sources.wiring
    if ours is not None and wiring.inputs:
        if _is_folded(theirs, wiring):
            signatures = _without_folding(signatures, ours)
        graphs = _graph(signatures, ours.inputs), _graph(theirs, _their_inputs(groups, wiring))
        matches = _with_same_names(match_graphs(*graphs), signatures, theirs)
        how = "by the wiring of both networks"
    else:
        matches = match_orders(signatures, theirs)
        how = f"by order and words in names, because {_UNTRACED if wiring.inputs else _UNRECORDED}"
    note = f"matched by structure: {len(matches.pairs)} of {len(signatures)} layers, {how}"
    return Pairings(_pairings(layers, sources, groups, matches, same_place(signatures, theirs)), (note,))


def _without_folding(signatures: Mapping[str, Hashable], ours: Traced) -> dict[str, Hashable]:
    """The layers but for the norms that a writer would fold into the layer before them."""
    return {name: signature for name, signature in signatures.items() if not _is_folding(name, signatures, ours)}


def resolved_inputs(
    layers: Sequence[Layer], sources: Sources, ours: Traced
) -> tuple[Mapping[str, Expression], Mapping[str, Expression]]:
    """(our layer → what feeds it, their layer → what feeds it), in layers with arrays and steps; "" is the output."""
    groups = _groups(sources)
    known = {name: group.signature for name, group in groups.items() if group.signature is not None}
    theirs = _resolved(known, _their_inputs(groups, sources.wiring))
    return _resolved(_signatures(layers), {**ours.inputs, "": ours.output}), theirs


def _with_same_names(matches: Matches, ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> Matches:
    """The pairs, and among the layers that the wiring leaves those of one name and one shape."""
    decided = matches.pairs.keys() | matches.ambiguous.keys()
    rest = {name: signature for name, signature in ours.items() if name not in decided}
    taken = set(matches.pairs.values())
    named = same_names(rest, {name: signature for name, signature in theirs.items() if name not in taken})
    return Matches({**matches.pairs, **named}, matches.ambiguous)


def _is_folded(theirs: Mapping[str, Hashable], wiring: Wiring) -> bool:
    """Whether no layer of theirs has a norm directly behind it: an exporter has folded them, or there are none."""
    return not any(
        kind_of_signature(signature) == "batch_norm"
        and len(feeding) == 1
        and kind_of_signature(theirs.get(feeding[0])) in OURS
        for name, signature in theirs.items()
        for feeding in [wiring.inputs.get(name, ())]
    )


def _is_folding(name: str, ours: Mapping[str, Hashable], model: Traced) -> bool:
    before = ours.get(model.follows.get(name, ""))
    return kind_of_signature(ours[name]) == "batch_norm" and kind_of_signature(before) in OURS


# --- both sides as layers with signatures ---------------------------------------------------------------------------


def _signatures(layers: Sequence[Layer], *, are_kinds_known: bool = True) -> dict[str, Hashable]:
    """Layer → signature, in the model's order; the vectors of modules of no known kind by their own names.

    are_kinds_known   whether the file records what its layers are: names and shapes alone cannot tell a transposed
                      convolution from a convolution
    """
    signatures: dict[str, Hashable] = {}
    for layer in layers:
        if layer.kind == "conv_transpose" and not are_kinds_known:
            layer = replace(layer, kind="conv")
        signature = signature_of(layer)
        if signature is not None:
            signatures[layer.name] = signature
        elif layer.kind == "other":
            signatures |= {
                layer.full(leaf): ("scale", prod(array.shape))
                for leaf, array in layer.arrays.items()
                if prod(array.shape) == max(array.shape, default=0)
            }
    return signatures


def _groups(sources: Sources) -> dict[str, _Group]:
    """Source layer → its arrays, in the file's order; a separable convolution is two layers."""
    arrays: dict[str, dict[str, str]] = defaultdict(dict)
    facts: dict[str, Facts] = {}
    separable = {info.layer for info in sources.infos.values() if info.leaf == "pointwise_kernel"}
    for name in sources.names:
        layer, leaf = _layer_and_leaf(name, sources, separable)
        arrays[layer][leaf] = name
        facts[layer] = {**sources.facts.get(name, {}), "layer_type": sources.infos[name].layer_type}
    operations = sources.wiring.operation
    return {
        layer: _Group(leaves, _signature(leaves, facts[layer], sources, operations.get(layer, "")))
        for layer, leaves in arrays.items()
    }


def _layer_and_leaf(name: str, sources: Sources, separable: Collection[str]) -> tuple[str, str]:
    """The layer that the wiring knows, or the array's own, and what the array is in it."""
    info = sources.infos[name]
    layer, leaf = (info.layer, info.leaf) if info.leaf else _split(name, sources)
    outer = _wired(layer, sources.wiring)
    if outer != layer:
        leaf = f"{layer[len(outer) :].strip('/.')}/{leaf}".strip("/")
    return (_depthwise_of(outer) if leaf.startswith("depthwise") and layer in separable else outer), leaf


def _in_order_of_numbers(sources: Sources, groups: Mapping[str, _Group]) -> dict[str, _Group]:
    """The layers of a file that is sorted by names (safetensors), 2 before 10: its order says nothing else."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in sources.names:
        names[sources.infos[name].dtype].append(name)  # safetensors sorts by type first
    if any(listed != sorted(listed) for listed in names.values()):
        return dict(groups)
    return dict(sorted(groups.items(), key=lambda item: natural(item[0])))


def _depthwise_of(separable: str) -> str:
    return f"{separable} (depthwise)"


def _split(name: str, sources: Sources) -> tuple[str, str]:
    """(layer, leaf) of a file that records only names: the layer as the wiring spells it, if it has one."""
    owner = sources.owners[name]
    if _wired(owner, sources.wiring) in sources.wiring.inputs:
        return owner, name[len(owner) + 1 :]
    plain = dotted(name, sources.layout)
    layer = parent_of(plain)
    return layer, plain[len(layer) :].removeprefix(".")


def _wired(layer: str, wiring: Wiring) -> str:
    """The layer, or the one around it that the wiring knows: a cell's LSTM, a wrapper."""
    outer = layer
    while outer and outer not in wiring.inputs:
        outer = outer.rpartition("/")[0]
    return outer or layer


def _signature(leaves: Mapping[str, str], facts: Facts, sources: Sources, operation: str) -> Hashable | None:
    shapes = {leaf: sources.infos[name].shape for leaf, name in leaves.items()}
    kind = str(facts.get("layer_type") or "")
    is_scale = kind == "LayerScale" or operation == "Mul" or shapes.keys() <= {"gamma", "layer_scale"}
    if is_scale and len(shapes) == 1:
        return ("scale", *map(prod, shapes.values()))
    if sources.layout is None:
        return None
    return source_signature(shapes, "" if kind.startswith("Separable") else kind, sources.layout, facts)


def _their_inputs(groups: Mapping[str, _Group], wiring: Wiring) -> dict[str, Expression]:
    """Layer → what feeds it, with joins as expressions; layers without weights are in it, to be looked through."""

    def output(layer: str) -> Expression:
        return stepped(wiring.steps(layer, has_arrays=True) if layer in groups else (), layer)

    inputs: dict[str, Expression] = {}
    for layer, feeding in wiring.inputs.items():
        operation = wiring.operation.get(layer, "")
        feed = combined(JOINS.get(operation, operation), [output(name) for name in feeding])
        wide = _depthwise_of(layer)
        if wide in groups:
            inputs[wide], feed = feed, wide
        inputs[layer] = stepped(_steps_inside(layer, groups.get(layer), wiring), feed)
    ends = wiring.ends()
    return {**inputs, "": output(ends[0])} if len(ends) == 1 else inputs


def _steps_inside(layer: str, group: _Group | None, wiring: Wiring) -> tuple[Step, ...]:
    """What a layer without arrays does; of a layer whose kind is not known, nothing is."""
    if group is None:
        return wiring.steps(layer, has_arrays=False)
    return (Step(Unknown(wiring.operation.get(layer, ""))),) if group.signature is None else ()


def _graph(signatures: Mapping[str, Hashable], inputs: Mapping[str, Expression]) -> Graph:
    """The layers with signatures; all others are looked through."""
    graph = {}
    for name, expression in _resolved(signatures, inputs).items():
        if name in signatures:
            feeding = bare(expression)
            graph[name] = LayerNode(_at_input(signatures[name]) if feeding == "" else signatures[name], feeding)
    return graph


def _resolved(known: Mapping[str, object], inputs: Mapping[str, Expression]) -> dict[str, Expression]:
    """Layer → what feeds it, in known layers and steps: all others are looked through."""
    done: dict[str, Expression] = {}

    def resolved(expression: Expression) -> Expression:
        if isinstance(expression, str):
            return named(expression)
        if isinstance(expression[0], Step):
            return stepped((expression[0],), resolved(expression[1]))
        return combined(expression[0], [resolved(part) for part in expression[1:]])

    def named(layer: str) -> Expression:
        if layer in known or layer not in inputs or not layer:
            return layer
        if layer not in done:
            done[layer] = ""  # a wiring that goes in a circle is cut here
            done[layer] = resolved(inputs[layer])
        return done[layer]

    return {name: resolved(inputs[name]) for name in inputs}


def _at_input(signature: Hashable) -> Hashable:
    """The first layer's signature without its input channels: another number of them is a row of the plan."""
    if isinstance(signature, tuple) and isinstance(signature[1], tuple):
        shape = signature[1]
        return ("first", shape[0], *(shape[2:] or (1, 1)))
    return signature


# --- pairs of layers → pairs of arrays ------------------------------------------------------------------------------


def _pairings(
    layers: Sequence[Layer],
    sources: Sources,
    groups: Mapping[str, _Group],
    matches: Matches,
    by_place: Mapping[str, str],
) -> dict[str, Pairing]:
    """by_place   our layer → theirs at the same place in the order, where both sides have the same layers"""
    flattened = suspected_flattening(layers) if sources.layout in CHANNELS_LAST else {}
    pairings: dict[str, Pairing] = {}
    for layer in layers:
        for name in (layer.name, *map(layer.full, layer.arrays)):
            if name in matches.ambiguous:
                candidates = [groups[other] for other in matches.ambiguous[name]]
                pairings |= _ambiguous(layer, name, candidates, groups.get(by_place.get(name, "")))
            if name in matches.pairs:
                group = groups[matches.pairs[name]]
                is_whole = name == layer.name
                paired = _whole(layer, group, sources, flattened) if is_whole else _scaled(layer, name, group, sources)
                pairings |= paired
    return pairings


def _whole(layer: Layer, group: _Group, sources: Sources, flattened: Mapping[str, int]) -> dict[str, Pairing]:
    below = {dotted(leaf): [name] for leaf, name in group.arrays.items()}
    paired = pair_layer(layer, below, sources, flattened.get(layer.name, 0))
    return {name: pairing if pairing.note else replace(pairing, note=_BY) for name, pairing in paired.items()}


def _scaled(layer: Layer, name: str, group: _Group, sources: Sources) -> dict[str, Pairing]:
    """A vector that scales a map, whatever axes of 1 it has on either side."""
    shape = next(array.shape for leaf, array in layer.arrays.items() if layer.full(leaf) == name)
    names = tuple(group.arrays.values())
    operations: tuple[Operation, ...] = (Reshape(shape),) if sources.infos[names[0]].shape != shape else ()
    return {name: Pairing(names, operations, _BY)}


def _ambiguous(layer: Layer, name: str, candidates: Sequence[_Group], likely: _Group | None) -> dict[str, Pairing]:
    """likely   the candidate at the same place in the order"""
    first = tuple(next(iter(group.arrays.values())) for group in candidates)
    note = (
        f"{counted(len(first), 'layer', 'has/have')} this kind and shape in the checkpoint, and the surroundings do "
        "not decide. Map its name in the checkpoint to the name in the model with a rename rule "
        "(docs/how-to/rename.md)."
    )
    likely = likely or (candidates[0] if len(candidates) == 1 else None)
    theirs = parent_of(next(iter(likely.arrays.values()))) if likely is not None and name == layer.name else ""
    rule = {f"{exact_pattern(theirs)}[./](.*)": rf"{layer.name}.\1"}
    effect = "map it" if len(first) == 1 else "map each to the layer at the same place in the order"
    advice = (Advice("rename", rule, effect),) if theirs else ()
    arrays = [leaf for leaf in layer.arrays if leaf != "num_batches_tracked"]
    targets = [name] if name != layer.name else map(layer.full, arrays)
    return dict.fromkeys(targets, Pairing(first, note=note, problem="ambiguous", advice=advice))
