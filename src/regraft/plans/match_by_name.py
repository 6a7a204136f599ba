"""Which of their arrays fill which of ours, judged by names: the layer's path, then the leaf's translation."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from regraft.arrays import ArrayInfo
from regraft.errors import PlanError, UndecidableError
from regraft.operations.joins import Fill
from regraft.operations.operation import Operation
from regraft.plans.layers import ORIENTED, Layer
from regraft.plans.layouts import OURS, absent_value, leaf_rules
from regraft.plans.recurrent_layouts import Facts, LeafRule
from regraft.plans.renaming import dotted, taken_off, unwrapped
from regraft.plans.rows import Status
from regraft.wording import counted

Below = Mapping[str, Sequence[str]]  # name below a layer → the sources of that name
# Frameworks whose maps are (h, w, c): what they flatten has another order than ours.
CHANNELS_LAST = frozenset({"tensorflow", "flax", "tflite", "tensorflow-or-flax"})

_ORDERED = ("as stored", "transposed", "bicubic", "linear")  # the ways whose words fix the order of the axes


@dataclass(frozen=True)
class Pairing:
    """The sources that fill one target. `problem` is the row's status when they do not.

    answers   the ways of `adapt` that settle an undecidable order
    """

    sources: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    note: str = ""
    problem: Status | None = None
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairings:
    """Target name → Pairing, and what was assumed in finding them."""

    of: Mapping[str, Pairing]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """What is known of the arrays that may fill a model.

    names   source name → name after the user's rules
    infos   source name → shape, dtype …
    layout  whose axis orders they follow; None leaves arrays whose axes have an order undecided
    facts   source name → what the file tells of its layer
    owners  source name → its layer
    """

    names: Mapping[str, str]
    infos: Mapping[str, ArrayInfo]
    layout: str | None
    facts: Mapping[str, Facts] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)


def pair_by_names(layers: Sequence[Layer], sources: Sources) -> Pairings:
    """Pair by equal layer names, after separators and wrappers, and by the leaf names of each kind of layer."""
    rules = {layer.name: leaf_rules(sources.layout or "torch", layer) for layer in layers}
    below, notes = _sources_below(layers, sources.names, rules, sources.layout)
    flattened = suspected_flattening(layers) if sources.layout in CHANNELS_LAST else {}
    pairings: dict[str, Pairing] = {}
    for layer in layers:
        known = rules[layer.name]
        pairings.update(pair_layer(layer, below[layer.name], sources, flattened.get(layer.name, 0), known))
    return Pairings(pairings, notes)


def suspected_flattening(layers: Sequence[Layer]) -> dict[str, int]:
    """Dense layer → channels of the map before it, where its inputs look like a flattened map of several places."""
    suspects: dict[str, int] = {}
    channels = inputs = before = width = 0
    for layer in layers:
        weight = layer.arrays.get("weight")
        if layer.kind in ("conv", "depthwise", "conv_transpose") and weight is not None:
            channels, inputs = weight.shape[1 if layer.kind == "conv_transpose" else 0], 0
        elif layer.kind == "dense" and weight is not None:
            size = weight.shape[1]
            if channels > 1 and size > channels and size % channels == 0:
                suspects[layer.name], inputs, before = channels, size, channels
            elif size == inputs and width != size:
                suspects[layer.name] = before  # a second dense layer behind the same flattened map
            channels, width = 0, weight.shape[0]
    return suspects


def _sources_below(
    layers: Sequence[Layer],
    names: Mapping[str, str],
    rules: Mapping[str, Mapping[str, Sequence[LeafRule]]],
    layout: str | None,
) -> tuple[dict[str, dict[str, list[str]]], tuple[str, ...]]:
    """Layer name → name below the layer → sources; wrappers are taken off where only then a layer is met."""
    variants = _layer_variants(layers)
    patterns = {layer.name: re.compile("|".join(_leaf_patterns(layer, rules[layer.name]))) for layer in layers}
    below: dict[str, dict[str, list[str]]] = {layer.name: defaultdict(list) for layer in layers}
    stripped: Counter[str] = Counter()
    for source, renamed in names.items():
        whole = dotted(renamed, layout)
        for name in unwrapped(whole):
            met = [
                (variants[prefix], rest)
                for prefix, rest in _splits(name)
                if prefix in variants and patterns[variants[prefix]].fullmatch(rest)
            ]
            for layer_name, rest in met:
                below[layer_name][rest].append(source)
            if met:
                stripped[taken_off(whole, name)] += 1
                break
        else:
            # No leaf of ours, but perhaps a part of a layer of ours: it tells that a layer is not whole.
            for prefix, rest in _splits(whole):
                if prefix and prefix in variants:
                    below[variants[prefix]][rest].append(source)
                    break
    notes = [f"{wrapper!r} was taken off {counted(count, 'name')}" for wrapper, count in stripped.items() if wrapper]
    return below, tuple(notes)


def _layer_variants(layers: Sequence[Layer]) -> dict[str, str]:
    """Every name under which a layer may be met → the layer's name; its own name wins over a stripped one."""
    variants = {layer.name: layer.name for layer in layers}
    shorter: dict[str, set[str]] = defaultdict(set)
    for layer in layers:
        for variant in unwrapped(layer.name):
            if variant not in variants:
                shorter[variant].add(layer.name)
    variants.update({variant: next(iter(names)) for variant, names in shorter.items() if len(names) == 1})
    return variants


def _leaf_patterns(layer: Layer, rules: Mapping[str, Sequence[LeafRule]]) -> list[str]:
    translated = [pattern for ways in rules.values() for way in ways for pattern in way.sources]
    return [f"(?:{pattern})" for pattern in (*translated, *map(re.escape, layer.arrays))]


def _splits(name: str) -> list[tuple[str, str]]:
    """("a.b", "c"), ("a", "b.c"), ("", "a.b.c") for a.b.c."""
    parts = name.split(".")
    return [(".".join(parts[:length]), ".".join(parts[length:])) for length in range(len(parts) - 1, -1, -1)]


def pair_layer(
    layer: Layer,
    below: Below,
    sources: Sources,
    flat_channels: int = 0,
    rules: Mapping[str, Sequence[LeafRule]] | None = None,
) -> dict[str, Pairing]:
    """Target name → Pairing for the arrays of one layer that its sources fill.

    flat_channels   of a map that the inputs of this dense layer may be the flattened form of; 0: no such suspicion
    rules           the layer's leaf rules, where they are at hand
    """
    rules = leaf_rules(sources.layout or "torch", layer) if rules is None else rules
    pairings = {}
    for leaf in layer.arrays:
        # A leaf of ours without a translation takes the very same name; in a torch file each may.
        same = (LeafRule((re.escape(leaf),), lambda shapes, facts: ()),)
        ways = (*same, *rules.get(leaf, ())) if sources.layout == "torch" else rules.get(leaf) or same
        pairing = _first_way([way for way in ways if way.sources], below, sources)
        if pairing is not None:
            pairing = _decided(pairing, layer, leaf, leaf in rules, sources.layout)
            if leaf == "weight" and flat_channels:
                pairing = _suspected(pairing, layer, sources, flat_channels)
            pairings[layer.full(leaf)] = pairing
    _fill_absent(layer, below, rules, pairings)
    if layer.kind in OURS and "bias" in layer.arrays and layer.full("bias") not in pairings:
        kernel = pairings.get(layer.full("weight"))
        if kernel is not None and _facts(kernel.sources, sources).get("use_bias") is False:
            zeros = Fill(0.0, layer.arrays["bias"].shape)
            pairings[layer.full("bias")] = Pairing((), (zeros,), "the source layer has no bias: 0 is the same function")
    return pairings


def _first_way(ways: Sequence[LeafRule], below: Below, sources: Sources) -> Pairing | None:
    for way in ways:
        hits = [
            [source for rest, names in below.items() if re.fullmatch(pattern, rest) for source in names]
            for pattern in way.sources
        ]
        if not all(hits):
            continue
        if any(len(hit) > 1 for hit in hits):
            found = tuple(source for hit in hits for source in hit)
            note = "Several sources fit this array: keep one of them with a rename rule that moves the others away."
            return Pairing(found, note=note, problem="ambiguous")
        names = tuple(hit[0] for hit in hits)
        try:
            facts = {**_facts(names, sources), "leaves": tuple(below)}
            operations = way.operations([sources.infos[name].shape for name in names], facts)
        except UndecidableError as error:
            answers = ("as stored", "flatten") if "flatten" in str(error) else ("as stored", "transposed")
            return Pairing(names, note=str(error), problem="undecidable_orientation", answers=answers)
        except PlanError as error:
            return Pairing(names, note=str(error), problem="shape_mismatch")
        return Pairing(names, operations, way.note)
    return None


def _facts(names: Sequence[str], sources: Sources) -> Facts:
    return {key: value for name in names for key, value in sources.facts.get(name, {}).items()}


def _decided(pairing: Pairing, layer: Layer, leaf: str, is_translated: bool, layout: str | None) -> Pairing:
    """The pairing, or the problem that the order of its axes is unknown."""
    if pairing.problem or layout == "torch" or layer.kind not in ORIENTED or len(layer.arrays[leaf].shape) < 2:
        return pairing
    if layout is not None and is_translated:
        return pairing
    why = (
        'The file does not tell which framework\'s axis order it follows. Say layout="tensorflow" or "torch" …'
        if layout is None
        else f"{layer.class_name} is of no known kind, so nothing tells how {layout} orders the axes of its {leaf}. "
        f'Say adapt={{"{layer.full(leaf)}": "as stored"}} when the order is the same.'
    )
    return replace(pairing, note=why, problem="undecidable_orientation", answers=_ORDERED)


def _suspected(pairing: Pairing, layer: Layer, sources: Sources, channels: int) -> Pairing:
    """The pairing, or the problem that its inputs may be a flattened map in another order."""
    if pairing.problem or "flatten_order" in _facts(pairing.sources, sources):
        return pairing
    places = layer.arrays["weight"].shape[1] // channels
    note = (
        f"Its inputs look like a flattened map of {places} places × {channels} channels. {sources.layout} flattens "
        "(h, w, c), torch (c, h, w), and the file does not tell.\n"
        f'Say adapt={{"{layer.name}": "flatten HxWx{channels}"}} with H·W = {places} to reorder them, '
        '"as stored" when both flatten alike.'
    )
    return replace(pairing, note=note, problem="undecidable_orientation", answers=("as stored", "flatten"))


def _fill_absent(
    layer: Layer, below: Below, rules: Mapping[str, Sequence[LeafRule]], pairings: dict[str, Pairing]
) -> None:
    """What the source framework leaves out: a norm's scale of 1, a second bias of 0. Only if all else is understood."""
    used = {source for leaf in layer.arrays for source in _sources(pairings, layer.full(leaf))}
    if not used or used != {source for sources in below.values() for source in sources}:
        return
    for leaf in layer.arrays:
        if layer.full(leaf) in pairings:
            continue
        operations = absent_value(layer, leaf)
        for way in rules.get(leaf, ()):
            operations = operations or (None if way.sources else way.operations([], {}))
        if operations:
            note = f"the source layer has no such array: {operations[0]} gives the same function"
            pairings[layer.full(leaf)] = Pairing((), operations, note)


def _sources(pairings: Mapping[str, Pairing], target: str) -> tuple[str, ...]:
    return pairings[target].sources if target in pairings else ()
