"""A bias that the model has no place for, before a batch-norm: taken off the norm's mean, it is the same function.

(w·x + b - mean) · scale + shift = (w·x - (mean - b)) · scale + shift. In training too: the batch's mean holds b.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import PlanError, near_names
from regraft.operations.joins import Subtract
from regraft.plans.layers import Layer
from regraft.plans.layouts import BIAS
from regraft.plans.pairing import Pairing, Sources

_ASKED = re.compile("fold bias of (?P<source>.+)")


def left_biases(layers: Sequence[Layer], pairings: Mapping[str, Pairing], sources: Sources) -> dict[str, str]:
    """Layer of ours without a bias → the bias that its source layer has."""
    used = {source for pairing in pairings.values() for source in pairing.sources}
    beside: dict[str, list[str]] = {}
    for name in sources.names:
        beside.setdefault(sources.owners[name], []).append(name)
    found = {}
    for layer in layers:
        pairing = pairings.get(layer.full("weight"))
        if layer.kind not in ("conv", "depthwise", "conv_transpose", "dense") or "bias" in layer.arrays or not pairing:
            continue
        if pairing.problem or len(pairing.sources) != 1:
            continue
        free = [name for name in beside[sources.owners[pairing.sources[0]]] if name not in used]
        biases = [name for name in free if re.fullmatch(rf"(?:.*[./])?(?:{BIAS})", sources.names[name].split(":")[0])]
        if len(biases) == 1:
            found[layer.name] = biases[0]
    return found


def fold_biases(
    biases: Mapping[str, str], pairings: Mapping[str, Pairing], sources: Sources, follows: Mapping[str, str]
) -> dict[str, Pairing]:
    """The pairings of the means that take a bias in: where both networks have nothing between layer and norm.

    biases    layer of ours → bias left behind
    follows   norm of ours → the layer whose output it takes, alone and directly
    """
    folded = {}
    for norm, layer in follows.items():
        mean = pairings.get(f"{norm}.running_mean")
        bias = biases.get(layer)
        if bias is None or mean is None or mean.problem or len(mean.sources) != 1 or mean.operations:
            continue
        told = sources.facts.get(mean.sources[0], {})
        is_linear = sources.facts.get(bias, {}).get("activation", "linear") == "linear"
        if is_linear and told.get("inputs") == [sources.owners[bias]] and _alike(mean.sources[0], bias, sources):
            folded[f"{norm}.running_mean"] = _folded(mean, bias)
    return folded


def fold_as_asked(
    ways: Mapping[str, str], pairings: Mapping[str, Pairing], sources: Sources
) -> tuple[dict[str, str], dict[str, Pairing]]:
    """(the other ways, the pairings of the means that the user gave a bias). Raises PlanError for an unknown array."""
    rest = dict(ways)
    folded = {}
    for target, way in ways.items():
        match = _ASKED.fullmatch(way)
        if match is None:
            continue
        del rest[target]
        if not target.endswith("running_mean"):
            continue  # the pattern chose a whole norm: its other arrays stay
        bias, mean = match["source"], pairings.get(target)
        if bias not in sources.names:
            raise PlanError(f"No array {bias!r} in the checkpoint, for {way!r}. {near_names(bias, sources.names)}")
        if mean is not None and not mean.problem and len(mean.sources) == 1:
            folded[target] = _folded(mean, bias)
    return rest, folded


def _alike(mean: str, bias: str, sources: Sources) -> bool:
    return sources.infos[mean].shape == sources.infos[bias].shape


def _folded(mean: Pairing, bias: str) -> Pairing:
    note = f"the model has no place for {bias}: taken off the mean of the norm behind it, it is the same function"
    return replace(mean, sources=(*mean.sources, bias), operations=(*mean.operations, Subtract()), note=note)
