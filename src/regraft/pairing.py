"""Which of their arrays fill which of ours, judged by names: the layer's path, then the leaf's translation."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regraft.arrays import ArrayInfo
from regraft.layers import ORIENTED, Layer
from regraft.layouts import LeafRule, absent_value, leaf_rules
from regraft.operations.operation import Operation
from regraft.renaming import dotted, unwrapped
from regraft.rows import Status

Below = Mapping[str, Sequence[str]]  # name below a layer → the sources of that name


@dataclass(frozen=True)
class Pairing:
    """The sources that fill one target. `problem` is "" when they do, else the row's status."""

    sources: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    note: str = ""
    problem: Status | None = None


@dataclass(frozen=True)
class Pairings:
    """Target name → Pairing, and what was assumed in finding them."""

    of: Mapping[str, Pairing]
    notes: tuple[str, ...] = ()


def pair_by_names(
    layers: Sequence[Layer], names: Mapping[str, str], infos: Mapping[str, ArrayInfo], layout: str | None
) -> Pairings:
    """Pair by equal layer names, after separators and wrappers, and by the leaf names of each kind of layer.

    names   source name → name after the user's rules
    layout  of the checkpoint; None leaves arrays whose axes have an order undecided
    """
    rules = {layer.name: leaf_rules(layout or "torch", layer) for layer in layers}
    below, notes = _sources_below(layers, names, rules, layout)
    pairings: dict[str, Pairing] = {}
    for layer in layers:
        pairings.update(_pair_layer(layer, below[layer.name], rules[layer.name], infos, layout))
    return Pairings(pairings, notes)


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
                stripped[whole.removesuffix(name)] += 1
                break
        else:
            # No leaf of ours, but perhaps a part of a layer of ours: it tells that a layer is not whole.
            for prefix, rest in _splits(whole):
                if prefix and prefix in variants:
                    below[variants[prefix]][rest].append(source)
                    break
    notes = [f"{wrapper!r} was taken off the front of {count} names" for wrapper, count in stripped.items() if wrapper]
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


def _pair_layer(
    layer: Layer,
    below: Below,
    rules: Mapping[str, Sequence[LeafRule]],
    infos: Mapping[str, ArrayInfo],
    layout: str | None,
) -> dict[str, Pairing]:
    pairings = {}
    for leaf in layer.arrays:
        # A leaf of ours without a translation takes the very same name.
        ways = rules.get(leaf) or (LeafRule((re.escape(leaf),), lambda _: ()),)
        pairing = _first_way(ways, below, infos)
        if pairing is not None:
            pairings[layer.full(leaf)] = _decided(pairing, layer, leaf, leaf in rules, layout)
    _fill_absent(layer, below, pairings)
    return pairings


def _first_way(ways: Sequence[LeafRule], below: Below, infos: Mapping[str, ArrayInfo]) -> Pairing | None:
    for way in ways:
        hits = [
            [source for rest, sources in below.items() if re.fullmatch(pattern, rest) for source in sources]
            for pattern in way.sources
        ]
        if not all(hits):
            continue
        if any(len(hit) > 1 for hit in hits):
            found = tuple(source for hit in hits for source in hit)
            note = "Several sources fit this array: keep one of them with a rename rule that moves the others away."
            return Pairing(found, note=note, problem="ambiguous")
        sources = tuple(hit[0] for hit in hits)
        return Pairing(sources, way.operations([infos[source].shape for source in sources]), way.note)
    return None


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
    return Pairing(pairing.sources, pairing.operations, why, "undecidable_orientation")


def _fill_absent(layer: Layer, below: Below, pairings: dict[str, Pairing]) -> None:
    """A norm whose source has no scale or shift: 1 or 0, if every other array of the source layer is understood."""
    used = {source for leaf in layer.arrays for source in _sources(pairings, layer.full(leaf))}
    if not used or used != {source for sources in below.values() for source in sources}:
        return
    for leaf in layer.arrays:
        operations = absent_value(layer, leaf)
        if layer.full(leaf) not in pairings and operations:
            note = f"the source layer has no such array: {operations[0]} gives the same function"
            pairings[layer.full(leaf)] = Pairing((), operations, note)


def _sources(pairings: Mapping[str, Pairing], target: str) -> tuple[str, ...]:
    return pairings[target].sources if target in pairings else ()
