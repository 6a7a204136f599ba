"""What is said of arrays without a source: where they probably are in the checkpoint, and what maps them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from regraft.errors import Advice
from regraft.foundation.patterns import exact_pattern
from regraft.foundation.wording import counted
from regraft.plans.layers import Layer
from regraft.plans.renaming import dotted
from regraft.plans.sources import Sources


@dataclass(frozen=True)
class Absence:
    """Why most arrays have no source, and what solves it beside `fresh`."""

    note: str = ""
    advice: tuple[Advice, ...] = ()


def absence_of(layers: Sequence[Layer], sources: Sources, *, by_names: bool) -> Absence:
    """A rename rule where one would map most arrays; matching by structure where most names differ.

    by_names   the layers were matched by names, and most of them have no source
    """
    prefixes = _prefixes(layers, sources)
    prefix, count = max(prefixes.items(), key=lambda item: item[1], default=("", 0))
    if count * 2 > len(sources.names):
        rule = {f"{exact_pattern(prefix)}(.*)": r"\1"}
        note = f"{counted(count, 'name')} of the checkpoint begin with {prefix!r}, and match without it."
        return Absence(note, (Advice("rename", rule, f"take {prefix!r} off the names"),))
    if by_names:
        note = (
            "Most names differ. Layers can be matched by kind, shape and connections instead (how-to/other-names),\n"
            "or the names be mapped with rename rules (how-to/rename)."
        )
        return Absence(note, (Advice("match", "structure", "match the layers by structure"),))
    return Absence("Another name in the checkpoint can be mapped with a rename rule (how-to/rename).")


def _prefixes(layers: Sequence[Layer], sources: Sources) -> Counter[str]:
    """What stands before the name of a layer of ours in the sources' names → how often."""
    names = {layer.name for layer in layers}
    prefixes: Counter[str] = Counter()
    for source in sources.names.values():
        parts = dotted(source, sources.layout).split(".")
        for length in range(1, len(parts) - 1):
            if ".".join(parts[length:-1]) in names:
                prefixes[source[: len("/".join(parts[:length])) + 1]] += 1
    return prefixes
