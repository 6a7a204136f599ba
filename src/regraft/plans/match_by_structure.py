"""Which of their layers is which of ours when names differ: by the wiring of both networks, else by order and words."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from regraft.operations.moves import Reshape
from regraft.operations.operation import Operation
from regraft.plans.compare_functions import Between
from regraft.plans.graphs import Expression, Graph, Matches, Node, bare, combined, match_graphs, stepped
from regraft.plans.layers import Layer
from regraft.plans.layouts import OURS
from regraft.plans.match_by_name import CHANNELS_LAST, Pairing, Pairings, Sources, pair_layer, suspected_flattening
from regraft.plans.match_by_order import match_orders, natural, same_names
from regraft.plans.module_graph import Place, Traced
from regraft.plans.recurrent_layouts import Facts
from regraft.plans.renaming import dotted
from regraft.plans.rows import RequirementRow
from regraft.plans.signatures import kind_of_signature, signature_of, source_signature
from regraft.plans.steps import UNKNOWN, Step, activation_step, told_steps

# Operations of other frameworks that join maps; all others are looked through.
_JOINS = {
    "Add": "add", "Sum": "add", "Eltwise": "add", "Multiply": "mul", "Mul": "mul", "Concatenate": "cat",
    "Concat": "cat",
    "CustomScaleLayer": "add",  # of keras.applications' InceptionResNetV2: a sum whose second part is scaled
}  # fmt: skip
_RECURRENT = ("SimpleRNN", "RNN")  # those without gates
_BY = "matched by structure"


@dataclass(frozen=True)
class Wiring:
    """Who feeds whom in the source network, layers without weights included; empty when the file does not tell.

    inputs     layer → the layers that feed it, in order
    operation  layer → what it does, in the source framework's word
    facts      layer → everything that the file tells of it
    """

    inputs: Mapping[str, Sequence[str]]
    operation: Mapping[str, str]
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def notes(self) -> tuple[str, ...]:
        """What no array shows, where the model's forward cannot be followed: pooling that pads by itself."""
        padded = [layer for layer, told in self.facts.items() if "pool" in told and told.get("padding") == "same"]
        words = sorted({self.operation[layer] for layer in padded if layer in self.operation})
        if not words:
            return ()
        return (
            f'the source network has {", ".join(words)} with padding "same": no array shows what the model does there. '
            "regraft.tf_layers has SameMaxPool2d and SameAvgPool2d; verify tells.",
        )

    def steps(self, layer: str, *, has_arrays: bool) -> tuple[Step, ...]:
        """What a layer does beside its arrays, the last first."""
        told = self.facts.get(layer, {})
        if has_arrays:
            if "recurrent_activation" in told or self.operation.get(layer) in _RECURRENT:
                return ()  # what these call their activation works inside of them, at every step in time
            step = activation_step(str(told.get("activation", "linear")))
            return () if step is None else (step,)
        operation = self.operation.get(layer, "")
        is_join = operation in _JOINS and len(self.inputs[layer]) > 1  # of one value and a number, it is a step
        return () if is_join else told_steps(operation, told)

    def ends(self) -> list[str]:
        """The layers that feed no other: the network's outputs."""
        feeding = {name for inputs in self.inputs.values() for name in inputs}
        return [layer for layer in self.inputs if layer not in feeding]

    def behind_global_pooling(self) -> set[str]:
        """The layers that a global pooling feeds through nothing that could reorder a map: they flatten none."""
        found = {layer for layer, word in self.operation.items() if word.startswith("Global")}
        for layer, feeding in self.inputs.items():  # a file's order is the order of the computation
            if len(feeding) == 1 and feeding[0] in found and self.operation.get(layer) not in {"Reshape", "Permute"}:
                found.add(layer)
        return found


@dataclass(frozen=True)
class _Group:
    """The arrays of one source layer: leaf → array."""

    arrays: Mapping[str, str]
    signature: Hashable | None


def pair_by_structure(layers: Sequence[Layer], sources: Sources, wiring: Wiring, model: Traced | None) -> Pairings:
    """Pair layers by kind, shape and surroundings together; what fits several ways is ambiguous, never guessed.

    model   the wiring of ours, None when the forward cannot be followed
    """
    ours = _signatures(layers)
    groups = _in_order_of_numbers(sources, _groups(sources, wiring))
    theirs = {name: group.signature for name, group in groups.items() if group.signature is not None}
    if model is not None and wiring.inputs:
        if _is_folded(theirs, wiring):
            ours = {name: signature for name, signature in ours.items() if not _is_folding(name, ours, model)}
        matches = match_graphs(_graph(ours, model.inputs), _graph(theirs, _their_inputs(groups, wiring)))
        matches = _with_same_names(matches, ours, theirs)
        how = "by the wiring of both networks"
    else:
        matches = match_orders(ours, theirs)
        lacking = "the file does not tell the wiring" if not wiring.inputs else "the model's forward cannot be followed"
        how = f"by order and words in names, because {lacking}"
    note = f"matched by structure: {len(matches.pairs)} of {len(ours)} layers, {how}"
    return Pairings(_pairings(layers, sources, groups, matches), (note,))


def compared_functions(
    layers: Sequence[Layer],
    sources: Sources,
    wiring: Wiring,
    model: Traced,
    pairs: Mapping[str, str],
    can_change: Callable[[Place, str], bool],
) -> tuple[RequirementRow, ...]:
    """The rows of poolings and activations that differ, however the layers were paired.

    pairs   our layer → the source layer whose arrays it takes
    """
    groups = _groups(sources, wiring)
    known = {name: group.signature for name, group in groups.items() if group.signature is not None}
    theirs = _resolved(known, _their_inputs(groups, wiring))
    ours = _resolved(_signatures(layers), {**model.inputs, "": model.output})
    return Between(ours, theirs, pairs, model, can_change).rows()


def _with_same_names(matches: Matches, ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> Matches:
    """The pairs, and among the layers that the wiring leaves those of one name and one shape."""
    rest = {name: one for name, one in ours.items() if name not in matches.pairs and name not in matches.ambiguous}
    taken = set(matches.pairs.values())
    named = same_names(rest, {name: one for name, one in theirs.items() if name not in taken})
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
    return (
        kind_of_signature(ours[name]) == "batch_norm"
        and kind_of_signature(ours.get(model.follows.get(name, ""))) in OURS
    )


# --- both sides as layers with signatures ---------------------------------------------------------------------------


def _signatures(layers: Sequence[Layer]) -> dict[str, Hashable]:
    """Layer → signature, in the model's order; the vectors of modules of no known kind by their own names."""
    found: dict[str, Hashable] = {}
    for layer in layers:
        signature = signature_of(layer)
        if signature is not None:
            found[layer.name] = signature
        elif layer.kind == "other":
            vectors = {
                leaf: array for leaf, array in layer.arrays.items() if prod(array.shape) == max(array.shape, default=0)
            }
            found |= {layer.full(leaf): ("scale", prod(array.shape)) for leaf, array in vectors.items()}
    return found


def _groups(sources: Sources, wiring: Wiring) -> dict[str, _Group]:
    """Source layer → its arrays, in the file's order; a separable convolution is two layers."""
    arrays: dict[str, dict[str, str]] = defaultdict(dict)
    facts: dict[str, Facts] = {}
    separable = {info.layer for info in sources.infos.values() if info.leaf == "pointwise_kernel"}
    for name in sources.names:
        info = sources.infos[name]
        layer, leaf = (info.layer, info.leaf) if info.leaf else _split(name, sources.layout)
        outer = _wired(layer, wiring)
        leaf = f"{layer[len(outer) :].strip('/.')}/{leaf}".strip("/") if outer != layer else leaf
        if leaf.startswith("depthwise") and layer in separable:
            outer = _depthwise_of(outer)
        arrays[outer][leaf] = name
        facts[outer] = {**sources.facts.get(name, {}), "layer_type": info.layer_type}
    return {
        layer: _Group(leaves, _signature(leaves, facts[layer], sources, wiring.operation.get(layer, "")))
        for layer, leaves in arrays.items()
    }


def _in_order_of_numbers(sources: Sources, groups: Mapping[str, _Group]) -> dict[str, _Group]:
    """The layers of a file that is sorted by names (safetensors), 2 before 10: its order tells nothing else."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in sources.names:
        names[sources.infos[name].dtype].append(name)  # safetensors sorts by type first
    if any(listed != sorted(listed) for listed in names.values()):
        return dict(groups)
    return dict(sorted(groups.items(), key=lambda item: natural(item[0])))


def _depthwise_of(separable: str) -> str:
    return f"{separable} (depthwise)"


def _split(name: str, layout: str | None) -> tuple[str, str]:
    """(layer, leaf) of a file that tells only names."""
    layer, _, leaf = dotted(name, layout).rpartition(".")
    return layer, leaf


def _wired(layer: str, wiring: Wiring) -> str:
    """The layer, or the one around it that the wiring knows: a cell's LSTM, a wrapper."""
    outer = layer
    while outer and outer not in wiring.inputs:
        outer = outer.rpartition("/")[0]
    return outer or layer


def _signature(leaves: Mapping[str, str], facts: Facts, sources: Sources, operation: str) -> Hashable | None:
    shapes = {leaf: sources.infos[name].shape for leaf, name in leaves.items()}
    kind = str(facts.get("layer_type") or "")
    if len(shapes) == 1 and (kind == "LayerScale" or operation == "Mul" or shapes.keys() <= {"gamma", "layer_scale"}):
        return ("scale", prod(next(iter(shapes.values()))))
    kind = "" if kind.startswith("Separable") else kind
    return source_signature(shapes, kind, sources.layout or "", facts) if sources.layout else None


def _their_inputs(groups: Mapping[str, _Group], wiring: Wiring) -> dict[str, Expression]:
    """Layer → what feeds it, with joins as expressions; layers without weights are in it, to be looked through."""
    found: dict[str, Expression] = {}

    def output(layer: str) -> Expression:
        steps = wiring.steps(layer, has_arrays=True) if layer in groups else ()
        return stepped(steps, layer)

    for layer, feeding in wiring.inputs.items():
        word = _JOINS.get(wiring.operation.get(layer, ""), wiring.operation.get(layer, ""))
        inputs = combined(word, [output(one) for one in feeding]) if feeding else ""
        wide = _depthwise_of(layer)
        if wide in groups:
            found[wide], inputs = inputs, wide
        steps = wiring.steps(layer, has_arrays=False) if layer not in groups else ()
        found[layer] = stepped((UNKNOWN,) if layer in groups and groups[layer].signature is None else steps, inputs)
    ends = wiring.ends()
    if len(ends) == 1:
        found[""] = output(ends[0])
    return found


def _graph(signatures: Mapping[str, Hashable], inputs: Mapping[str, Expression]) -> Graph:
    """The layers with signatures; all others are looked through."""
    graph = {}
    for name, expression in _resolved(signatures, inputs).items():
        if name in signatures:
            feeding = bare(expression)
            graph[name] = Node(_at_input(signatures[name]) if feeding == "" else signatures[name], feeding)
    return graph


def _resolved(known: Mapping[str, object], inputs: Mapping[str, Expression]) -> dict[str, Expression]:
    """Layer → what feeds it, in known layers and steps: all others are looked through."""
    found: dict[str, Expression] = {}

    def resolved(expression: Expression) -> Expression:
        if not isinstance(expression, str):
            if isinstance(expression[0], Step):
                return stepped((expression[0],), resolved(expression[1]))
            return combined(expression[0], [resolved(part) for part in expression[1:]])
        if expression in known or expression not in inputs or not expression:
            return expression
        if expression not in found:
            found[expression] = ""  # a wiring that goes in a circle is cut here
            found[expression] = resolved(inputs[expression])
        return found[expression]

    return {name: resolved(inputs[name]) for name in inputs}


def _at_input(signature: Hashable) -> Hashable:
    """The first layer's signature without its input channels: another number of them is a row of the plan."""
    if isinstance(signature, tuple) and isinstance(signature[1], tuple):
        shape = signature[1]
        return ("first", shape[0], *(shape[2:] or (1, 1)))
    return signature


# --- pairs of layers → pairs of arrays ------------------------------------------------------------------------------


def _pairings(
    layers: Sequence[Layer], sources: Sources, groups: Mapping[str, _Group], matches: Matches
) -> dict[str, Pairing]:
    flattened = suspected_flattening(layers) if sources.layout in CHANNELS_LAST else {}
    found: dict[str, Pairing] = {}
    for layer in layers:
        for name in (layer.name, *(layer.full(leaf) for leaf in layer.arrays)):
            if name in matches.pairs:
                group = groups[matches.pairs[name]]
                found |= (
                    _scaled(layer, name, group, sources)
                    if name != layer.name
                    else _whole(layer, group, sources, flattened)
                )
            elif name in matches.ambiguous:
                found |= _confused(layer, name, [groups[other] for other in matches.ambiguous[name]])
    return found


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


def _confused(layer: Layer, name: str, candidates: Sequence[_Group]) -> dict[str, Pairing]:
    first = tuple(next(iter(group.arrays.values())) for group in candidates)
    note = f"{len(first)} source layers fit it by structure: tell them apart with a rename rule, theirs -> ours."
    leaves = (
        [name] if name != layer.name else [layer.full(leaf) for leaf in layer.arrays if leaf != "num_batches_tracked"]
    )
    return {leaf: Pairing(first, note=note, problem="ambiguous") for leaf in leaves}
