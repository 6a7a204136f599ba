"""What is said of arrays without a source: where they probably are in the checkpoint, and what maps them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regraft.errors import Advice
from regraft.foundation.patterns import exact_pattern
from regraft.foundation.wording import counted
from regraft.plans.layers import Layer, layers_by_array
from regraft.plans.nameless import are_nameless
from regraft.plans.renaming import dotted
from regraft.plans.sources import Sources, layout_advice

_JOINED = re.compile(
    r".+\.(?P<name>qkv|in_proj|to_qkv|qkv_proj|c_attn|Wqkv|query_key_value)(?P<sign>[._])(?:weight|bias)"
)
_QUERY = re.compile(r"(?:.*\.)?(?P<query>q|query)(?P<end>(?:_proj|_lin)?)")


@dataclass(frozen=True)
class Absence:
    """Why most arrays have no source, and what solves it beside `fresh`."""

    note: str = ""
    advice: tuple[Advice, ...] = ()


def absence_of(layers: Sequence[Layer], sources: Sources, *, by_names: bool) -> Absence:
    """A rename rule where one would map most arrays; matching by structure where most names differ.

    by_names   the layers were matched by names, and most of them have no source
    """
    if are_nameless(sources):
        return _of_a_list(layers, sources)
    arrays = min(len(layers_by_array(layers)), len(sources.names))
    prefixes = {prefix: count for prefix, count in _their_prefixes(layers, sources).items() if count * 2 > arrays}
    own, count = max(_our_prefixes(layers, sources).items(), key=lambda item: item[1], default=("", 0))
    if not by_names:
        note = "Another name in the checkpoint can be mapped with a rename rule (docs/how-to/rename.md)."
        return Absence(note, _joined_projections(layers, sources))
    if prefixes:
        return _with_prefixes(prefixes)
    if count * 2 > arrays:
        note = f"{counted(count, 'name')} of the model begin with {own!r}, and match without it."
        return Absence(note, (Advice("rename", {"(.*)": rf"{own}\1"}, f"put {own!r} before the names"),))
    note = (
        "Most names differ. Layers can be matched by kind, shape and connections instead\n"
        "(docs/how-to/other-names.md), or names can be mapped with rename rules (docs/how-to/rename.md)."
    )
    return Absence(note, (Advice("match", "structure", "match the layers by structure"),))


def _with_prefixes(prefixes: Mapping[str, int]) -> Absence:
    """Of prefixes that most names of the checkpoint have and the model's do not."""
    advice = [
        Advice("rename", {f"{exact_pattern(prefix)}(.*)": r"\1"}, f"take {prefix!r} off the names")
        for prefix in prefixes
    ]
    lines = [f"{counted(number, 'name')} begin with {prefix!r}" for prefix, number in prefixes.items()]
    return Absence(f"In the checkpoint {' and '.join(lines)}, and match without it.", tuple(advice))


def _of_a_list(layers: Sequence[Layer], sources: Sources) -> Absence:
    """Arrays without names are matched in order: for a known layout, and as many as the model has."""
    ours = sum(leaf != "num_batches_tracked" for layer in layers for leaf in layer.arrays)
    note = f"The checkpoint has {counted(len(sources.names), 'array')} with numbers for names, the model {ours}."
    if sources.layout is None:
        note += " They are matched in order once their layout is known."
        return Absence(note, layout_advice(("theano", "tensorflow", "torch")))
    return Absence(
        f"{note} They are matched in order where both have the same arrays: name the layers that have none with fresh, "
        'or give each its name with rename={"arr_0": "fc1.weight"} (docs/how-to/rename.md).'
    )


def _joined_projections(layers: Sequence[Layer], sources: Sources) -> tuple[Advice, ...]:
    """The rule that gives a joined projection of the checkpoint to the model's queries, keys and values."""
    joined = next(filter(None, map(_JOINED.fullmatch, sources.names)), None)
    apart = next(filter(None, (_QUERY.fullmatch(layer.name) for layer in layers)), None)
    if joined is None or apart is None:
        return ()
    ours = [f"{before}{apart['end']}" for before in (("query", "key", "value") if apart["query"] == "query" else "qkv")]
    rule = {rf"(.*)\.{joined['name']}{exact_pattern(joined['sign'])}(weight|bias)": [rf"\1.{name}.\2" for name in ours]}
    return (Advice("rename", rule, "give the joined projection to the layers of queries, keys and values"),)


def _their_prefixes(layers: Sequence[Layer], sources: Sources) -> Counter[str]:
    """What stands before the name of a layer of ours in the sources' names → how often."""
    names = {layer.name for layer in layers}
    prefixes: Counter[str] = Counter()
    for source in sources.new_names:
        parts = dotted(source, sources.layout).split(".")
        for length in range(1, len(parts) - 1):
            if ".".join(parts[length:-1]) in names:
                prefixes[source[: len("/".join(parts[:length])) + 1]] += 1
    return prefixes


def _our_prefixes(layers: Sequence[Layer], sources: Sources) -> Counter[str]:
    """What stands before the name of a layer of theirs in our names → how many arrays."""
    theirs = {dotted(source, sources.layout).rpartition(".")[0] for source in sources.new_names}
    prefixes: Counter[str] = Counter()
    for layer in layers:
        parts = layer.name.split(".")
        for length in range(1, len(parts)):
            if ".".join(parts[length:]) in theirs:
                prefixes[".".join(parts[:length]) + "."] += len(layer.arrays)
    return prefixes
