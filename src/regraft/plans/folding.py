"""A bias that the model has no place for, before a batch-norm: as a part of the norm it is the same function.

Where both networks have the norm, the bias is taken off its mean: (w·x + b - mean) · scale + shift =
(w·x - (mean - b)) · scale + shift. In training too: the batch's mean holds b. Where an exporter has folded the norm
into the layer before it, the model's norm gets what changes nothing, and the bias as its shift.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import PlanError
from regraft.operations.joins import Fill, Subtract
from regraft.plans.layers import Layer
from regraft.plans.layouts import BIAS
from regraft.plans.match_by_name import Pairing, Sources
from regraft.wording import near_names

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


# Formats for inference, whose writers fold norms into the layers before them.
_FOLDING = frozenset({"onnx", "tflite"})
# Their words for the layers that a norm may be folded into.
FOLDED_INTO = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Conv2D", "DepthwiseConv2D", "Dense"})


def unfold_norms(
    biases: Mapping[str, str],
    pairings: Mapping[str, Pairing],
    sources: Sources,
    follows: Mapping[str, str],
    layers: Sequence[Layer],
) -> dict[str, Pairing]:
    """The pairings of norms that the file has folded into the layers before them: no array of theirs is anywhere.

    biases    layer of ours → bias left behind
    follows   norm of ours → the layer whose output it takes, alone and directly
    """
    found: dict[str, Pairing] = {}
    if sources.layout not in _FOLDING:
        return found
    normed = {name for told in sources.facts.values() if told.get("operation") in _NORMS for name in _inputs(told)}
    for layer in layers:
        bias = biases.get(follows.get(layer.name, ""))
        if layer.kind != "batch_norm" or bias is None or sources.owners[bias] in normed:
            continue
        if any(layer.full(leaf) in pairings for leaf in layer.arrays) or "bias" not in layer.arrays:
            continue
        found |= _unfolded(layer, bias)
    return found


_NORMS = frozenset({"BatchNormalization"})


def _inputs(told: Mapping[str, object]) -> Sequence[str]:
    inputs = told.get("inputs")
    return inputs if isinstance(inputs, list) else ()


def _unfolded(layer: Layer, bias: str) -> dict[str, Pairing]:
    """With mean 0, variance 1 - eps and scale 1 a norm adds its shift and does nothing else."""
    eps = layer.settings["eps"]
    assert isinstance(eps, float), "our bug: a batch-norm without an eps"
    note = f"the file has this norm folded into the layer before it: it adds {bias} and changes nothing else"
    values = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - eps}
    found = {
        layer.full(leaf): Pairing((), (Fill(value, layer.arrays[leaf].shape),), note)
        for leaf, value in values.items()
        if leaf in layer.arrays
    }
    return {**found, layer.full("bias"): Pairing((bias,), (), note)}


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
