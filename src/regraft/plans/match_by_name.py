"""Which of their arrays fill which of ours, judged by names: the layer's path, then the leaf's translation."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from regraft.errors import Advice, PlanError, UndecidableError
from regraft.foundation.wording import counted
from regraft.operations.joins import Fill
from regraft.operations.moves import PermuteFlat
from regraft.operations.operation import Operation
from regraft.plans.adapting import in_turn
from regraft.plans.layers import ORIENTED, Layer
from regraft.plans.layouts import OURS, absent_value, flatten_advice, leaf_rules
from regraft.plans.recurrent_layouts import Facts, LeafRule, Rules
from regraft.plans.renaming import dotted, taken_off, unwrapped
from regraft.plans.rows import Status
from regraft.plans.sources import Sources, layout_advice

Below = Mapping[str, Sequence[str]]  # name below a layer → the sources of that name
# Frameworks whose maps are (h, w, c): what they flatten has another order than ours.
CHANNELS_LAST = frozenset({"tensorflow", "flax", "tflite", "tensorflow-or-flax", "haiku", "mlx"})

_ORDERED = ("as stored", "transposed", "axes", "bicubic", "linear")  # the methods whose words fix the order of the axes
_FLATTENED = ("as stored", "flatten")


@dataclass(frozen=True)
class Pairing:
    """The sources that fill one target. `problem` is the row's status when they do not.

    answers   the methods of `adapt` that settle an undecidable order
    advice    the arguments that solve the problem
    share     (index, count) of this target among those that one rename rule gives the source to; (0, 1): the only one
    """

    sources: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    note: str = ""
    problem: Status | None = None
    answers: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    share: tuple[int, int] = (0, 1)

    def is_settled_by(self, method: str | None) -> bool:
        """Whether this method of `adapt` is an answer to the problem."""
        return bool(self.answers) and any(words.startswith(self.answers) for words in in_turn(method or ""))


@dataclass(frozen=True)
class Pairings:
    """Target name → Pairing, and what was assumed in making them."""

    of: Mapping[str, Pairing]
    notes: tuple[str, ...] = ()


def used_sources(pairings: Iterable[Pairing]) -> set[str]:
    """The sources of all these pairings."""
    return {source for pairing in pairings for source in pairing.sources}


def pair_by_names(layers: Sequence[Layer], sources: Sources) -> Pairings:
    """Pair by equal layer names, after separators and wrappers, and by the leaf names of each kind of layer."""
    rules = {layer.name: leaf_rules(sources.layout or "torch", layer) for layer in layers}
    below, shares, notes = _sources_below(_Homes.of(layers, rules, sources.layout), sources)
    flattened = suspected_flattening(layers) if sources.layout in CHANNELS_LAST else {}
    pairings: dict[str, Pairing] = {}
    for layer in layers:
        known = rules[layer.name]
        paired = pair_layer(layer, below[layer.name], sources, flattened.get(layer.name, 0), known)
        for name, pairing in paired.items():
            share = shares.get((layer.name, pairing.sources[0])) if pairing.sources else None
            pairings[name] = pairing if share is None else replace(pairing, share=share)
    return Pairings(pairings, notes)


def suspected_flattening(layers: Sequence[Layer]) -> dict[str, int]:
    """Dense layer → channels of the map before it, where its inputs look like a flattened map of several places."""
    suspects: dict[str, int] = {}
    channels = inputs = before = width = 0
    for layer in layers:
        if layer.kernel is None or layer.kind not in OURS:
            continue
        outputs, size = layer.kernel.shape[:2]
        if layer.kind == "dense":
            if 1 < channels < size and size % channels == 0:
                suspects[layer.name], inputs, before = channels, size, channels
            elif size == inputs != width:
                suspects[layer.name] = before  # a second dense layer behind the same flattened map
            channels, width = 0, outputs
        else:
            channels, inputs = size if layer.kind == "conv_transpose" else outputs, 0
    return suspects


# --- source names → layers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Homes:
    """The layer that a source name belongs to.

    layers     every name under which a layer may appear → the layer's name
    patterns   layer → what its leaves may be called
    """

    layers: Mapping[str, str]
    patterns: Mapping[str, re.Pattern[str]]

    @staticmethod
    def of(layers: Sequence[Layer], rules: Mapping[str, Rules], layout: str | None) -> "_Homes":
        patterns = {layer.name: re.compile("|".join(_leaf_patterns(layer, rules[layer.name]))) for layer in layers}
        return _Homes(_layer_variants(layers, underscored=layout == "coreml"), patterns)

    def find(self, whole: str) -> tuple[list[tuple[str, str]], str]:
        """([(layer, leaf below it)], the wrapper that was taken off): wrappers go where only then a layer is found."""
        for name in unwrapped(whole):
            homes = [home for home in self._above(name) if self.patterns[home[0]].fullmatch(home[1])]
            if homes:
                return homes, taken_off(whole, name)
        # No leaf of ours, but perhaps a part of a layer of ours: then that layer is not whole without it.
        inner = next((home for home in self._above(whole) if home[0]), None)
        return ([] if inner is None else [inner]), ""

    def _above(self, name: str) -> Iterator[tuple[str, str]]:
        """("a.b", "c"), ("a", "b.c") for a.b.c, as far as a and a.b are layers; the innermost first."""
        parts = name.split(".")
        for length in range(len(parts) - 1, -1, -1):
            prefix = ".".join(parts[:length])
            if prefix in self.layers:
                yield self.layers[prefix], ".".join(parts[length:])


Shares = dict[tuple[str, str], tuple[int, int]]  # (layer, source) → (index, count) among the names that a rule gives


def _sources_below(homes: _Homes, sources: Sources) -> tuple[dict[str, dict[str, list[str]]], Shares, tuple[str, ...]]:
    """(layer name → name below the layer → sources, the shares of sources with several names, notes)."""
    below: dict[str, dict[str, list[str]]] = {layer: defaultdict(list) for layer in homes.patterns}
    shares: Shares = {}
    stripped: Counter[str] = Counter()
    for source, names in sources.names.items():
        for index, name in enumerate(names):
            matches, wrapper = homes.find(dotted(name, sources.layout))
            for layer, rest in matches:
                below[layer][rest].append(source)
                if len(names) > 1:
                    shares[layer, source] = (index, len(names))
            stripped[wrapper] += 1
    notes = [f"{wrapper!r} was taken off {counted(count, 'name')}" for wrapper, count in stripped.items() if wrapper]
    return below, shares, tuple(notes)


def _layer_variants(layers: Sequence[Layer], *, underscored: bool = False) -> dict[str, str]:
    """Every name under which a layer may appear → the layer's name; its own name wins over a stripped one.

    underscored   whether the writer (Core ML's) puts an underscore for each dot: layer1_0_conv1
    """
    variants = {layer.name: layer.name for layer in layers}
    shorter: dict[str, set[str]] = defaultdict(set)
    for layer in layers:
        for variant in (*unwrapped(layer.name), *([layer.name.replace(".", "_")] if underscored else [])):
            if variant not in variants:
                shorter[variant].add(layer.name)
    variants.update({variant: next(iter(names)) for variant, names in shorter.items() if len(names) == 1})
    return variants


def _leaf_patterns(layer: Layer, rules: Rules) -> list[str]:
    translated = [pattern for several in rules.values() for rule in several for pattern in rule.sources]
    return [f"(?:{pattern})" for pattern in (*translated, *map(re.escape, layer.arrays))]


# --- the arrays of one layer ------------------------------------------------------------------------------------------


def pair_layer(
    layer: Layer, below: Below, sources: Sources, flat_channels: int = 0, rules: Rules | None = None
) -> dict[str, Pairing]:
    """Target name → Pairing for the arrays of one layer that its sources fill.

    flat_channels   of a map that the inputs of this dense layer may be the flattened form of; 0: no such suspicion
    rules           the layer's leaf rules, where they are at hand
    """
    rules = leaf_rules(sources.layout or "torch", layer) if rules is None else rules
    pairings = {}
    for leaf in layer.arrays:
        pairing = _first_rule(_rules_of(leaf, rules, sources.layout), below, sources)
        if pairing is not None:
            pairing = _decided(pairing, layer, leaf, leaf in rules, sources.layout)
            is_suspect = leaf == "weight" and flat_channels
            pairings[layer.full(leaf)] = _suspected(pairing, layer, sources, flat_channels) if is_suspect else pairing
    pairings |= _absent_arrays(layer, below, rules, pairings)
    return _absent_bias(layer, pairings, sources) | pairings


def _rules_of(leaf: str, rules: Rules, layout: str | None) -> list[LeafRule]:
    """A leaf of ours without a translation takes the very same name; in a torch file each may."""
    known = rules.get(leaf, ())
    is_single = bool(known) and len(known[0].sources) == 1
    same = LeafRule((re.escape(leaf),), known[0].operations if is_single else lambda shapes, facts: ())
    possible = (same, *known) if layout == "torch" else known or (same,)
    return [rule for rule in possible if rule.sources]


def _first_rule(rules: Sequence[LeafRule], below: Below, sources: Sources) -> Pairing | None:
    """The pairing by the first rule whose sources are all there."""
    for rule in rules:
        hits = [_matching(pattern, below) for pattern in rule.sources]
        if all(hits):
            names = tuple(chain.from_iterable(hits))
            if len(names) == len(hits):
                return _paired_by(rule, names, below, sources)
            note = "Several arrays of the checkpoint match this one. Rename all but one (docs/how-to/rename.md)."
            return Pairing(names, note=note, problem="ambiguous")
    return None


def _matching(pattern: str, below: Below) -> list[str]:
    return [source for rest, names in below.items() if re.fullmatch(pattern, rest) for source in names]


def _paired_by(rule: LeafRule, names: tuple[str, ...], below: Below, sources: Sources) -> Pairing:
    facts: Facts = {**sources.facts_of(names), "leaves": tuple(below)}
    try:
        operations = rule.operations([sources.infos[name].shape for name in names], facts)
    except UndecidableError as error:
        decided = tuple(operation for operation in error.decided if isinstance(operation, Operation))
        return Pairing(names, decided, error.text, "undecidable_orientation", _answers(error.advice), error.advice)
    except PlanError as error:
        return Pairing(names, note=error.text, problem="shape_mismatch", advice=error.advice)
    return Pairing(names, operations, rule.note)


def _answers(advice: Sequence[Advice]) -> tuple[str, ...]:
    """The methods of `adapt` that are advised, without placeholders."""
    methods = [method for item in advice if isinstance(item.value, dict) for method in item.value.values()]
    return tuple(str(method).removesuffix(" HxWxC") for method in methods)


def _decided(pairing: Pairing, layer: Layer, leaf: str, is_translated: bool, layout: str | None) -> Pairing:
    """The pairing, or the problem that the order of its axes is unknown."""
    is_oriented = layer.kind in ORIENTED and len(layer.arrays[leaf].shape) > 1
    is_known = layout == "torch" or (layout is not None and is_translated)
    if pairing.problem or is_known or not is_oriented:
        return pairing
    note = f"The axis order of {leaf} is unknown: regraft does not know the layer {layer.class_name}."
    advice: tuple[Advice, ...] = (Advice("adapt", {layer.full(leaf): "as stored"}, "keep the order of the axes"),)
    if layout is None:
        note = "The file does not record which framework's axis order it follows."
        advice = layout_advice(("tensorflow", "torch"))
    return replace(pairing, note=note, problem="undecidable_orientation", answers=_ORDERED, advice=advice)


def _suspected(pairing: Pairing, layer: Layer, sources: Sources, channels: int) -> Pairing:
    """The pairing, or the problem that its inputs may be a flattened map in another order."""
    facts = sources.facts_of(pairing.sources)
    if "flatten_order" in facts:
        return _with_own_channels(pairing, layer, facts, channels)
    if pairing.problem:
        return pairing
    places = layer.arrays["weight"].shape[1] // channels
    note = (
        f"Its inputs look like a flattened map of {places} places × {channels} channels. {sources.layout} flattens "
        "(h, w, c), torch (c, h, w), and the file does not record the order."
    )
    return replace(
        pairing,
        note=note,
        problem="undecidable_orientation",
        answers=_FLATTENED,
        advice=flatten_advice(layer, channels),
    )


def _with_own_channels(pairing: Pairing, layer: Layer, facts: Facts, channels: int) -> Pairing:
    """The pairing; where the file records the order of a map alone, the model's own layers show its channels."""
    axes, inputs = facts.get("flatten_axes"), layer.arrays["weight"].shape[1]
    is_last = facts["flatten_order"] == "channels_last" or axes == ["w", "h", "c"]
    if not pairing.problem or not is_last or "flatten_channels" in facts or inputs % channels or axes:
        return pairing
    order = PermuteFlat(1, (inputs // channels, channels), (1, 0))
    note = f"the file flattens (h, w, c), and the map before it has {channels} channels in the model"
    return replace(pairing, operations=(*pairing.operations, order), problem=None, note=note, advice=())


def _absent_arrays(layer: Layer, below: Below, rules: Rules, pairings: Mapping[str, Pairing]) -> dict[str, Pairing]:
    """What the source framework leaves out: a norm's scale of 1, a second bias of 0. Only if all else is understood."""
    used = used_sources(pairings.values())
    if not used or used != set(chain.from_iterable(below.values())):
        return {}
    absent = {}
    for leaf in layer.arrays:
        operations = _absent_operations(layer, leaf, rules)
        if operations and layer.full(leaf) not in pairings:
            note = f"the source has no such array: {operations[0]}, it is the same"
            absent[layer.full(leaf)] = Pairing((), operations, note)
    return absent


def _absent_operations(layer: Layer, leaf: str, rules: Rules) -> tuple[Operation, ...] | None:
    without_source = [rule for rule in rules.get(leaf, ()) if not rule.sources]
    return absent_value(layer, leaf) or (without_source[0].operations([], {}) if without_source else None)


def _absent_bias(layer: Layer, pairings: Mapping[str, Pairing], sources: Sources) -> dict[str, Pairing]:
    """A bias of 0, where the file says that the source layer has none."""
    kernel = pairings.get(layer.full("weight"))
    if layer.kind not in OURS or "bias" not in layer.arrays or kernel is None:
        return {}
    if sources.facts_of(kernel.sources).get("use_bias") is not False:
        return {}
    zeros = Fill(0.0, layer.arrays["bias"].shape)
    return {layer.full("bias"): Pairing((), (zeros,), "the source layer has no bias: 0 is the same function")}
