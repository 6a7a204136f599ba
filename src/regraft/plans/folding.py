"""A bias that the model has no array for, before a batch-norm: as a part of the norm it is the same function.

Where both networks have the norm, the bias is subtracted from its mean: (w·x + b - mean) · scale + shift =
(w·x - (mean - b)) · scale + shift. In training too: the batch's mean holds b. Where an exporter has folded the norm
into the layer before it, the model's norm gets values that change nothing, and the bias as its shift.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import PlanError
from regraft.foundation.wording import near_names
from regraft.operations.joins import Fill, Subtract
from regraft.plans.layers import Layer
from regraft.plans.layouts import BIAS
from regraft.plans.match_by_name import Pairing, used_sources
from regraft.plans.sources import Sources

_IS_BIAS = re.compile(rf"(?:.*[./])?(?:{BIAS})")
_REQUEST = re.compile("fold bias of (?P<source>.+)")
_FOLDABLE = ("conv", "depthwise", "conv_transpose", "dense")
# Formats for inference, whose writers fold norms into the layers before them.
_FOLDING_FORMATS = frozenset({"onnx", "tflite"})

Pairs = Mapping[str, Pairing]


def left_biases(layers: Sequence[Layer], pairings: Pairs, sources: Sources) -> dict[str, str]:
    """Layer of ours without a bias → the bias that its source layer has."""
    used = used_sources(pairings.values())
    free: dict[str, list[str]] = defaultdict(list)
    for name in sources.names.keys() - used:
        if _IS_BIAS.fullmatch(sources.names[name][0].split(":")[0]):
            free[sources.owners[name]].append(name)
    biases = {}
    for layer in filter(_lacks_bias, layers):
        kernel = pairings.get(layer.full("weight"))
        names = free[sources.owners[kernel.sources[0]]] if kernel is not None and _is_plain(kernel) else []
        if len(names) == 1:
            biases[layer.name] = names[0]
    return biases


def _lacks_bias(layer: Layer) -> bool:
    return layer.kind in _FOLDABLE and "bias" not in layer.arrays


def _is_plain(pairing: Pairing) -> bool:
    return not pairing.problem and len(pairing.sources) == 1


def fold_biases(
    biases: Mapping[str, str], pairings: Pairs, sources: Sources, follows: Mapping[str, str]
) -> dict[str, Pairing]:
    """The pairings of the means that take a bias in: where both networks have nothing between layer and norm.

    biases    layer of ours → bias left behind
    follows   norm of ours → the layer whose output it takes, alone and directly
    """
    means = {f"{norm}.running_mean": biases[layer] for norm, layer in follows.items() if layer in biases}
    return {
        mean: _folded(pairings[mean], bias)
        for mean, bias in means.items()
        if mean in pairings and _can_fold(pairings[mean], bias, sources)
    }


def _can_fold(mean: Pairing, bias: str, sources: Sources) -> bool:
    if mean.problem or len(mean.sources) != 1 or mean.operations:
        return False
    norm = mean.sources[0]
    is_linear = sources.facts.get(bias, {}).get("activation", "linear") == "linear"
    is_next = sources.facts.get(norm, {}).get("inputs") == [sources.owners[bias]]
    return is_linear and is_next and sources.infos[norm].shape == sources.infos[bias].shape


def _folded(mean: Pairing, bias: str) -> Pairing:
    note = f"the model has no array for {bias}: subtracted from the mean of the norm behind it, it is the same function"
    return replace(mean, sources=(*mean.sources, bias), operations=(*mean.operations, Subtract()), note=note)


def unfold_norms(
    biases: Mapping[str, str],
    pairings: Pairs,
    sources: Sources,
    follows: Mapping[str, str],
    layers: Sequence[Layer],
) -> dict[str, Pairing]:
    """The pairings of norms that the file has folded into the layers before them: it holds no array of theirs.

    biases    layer of ours → bias left behind
    follows   norm of ours → the layer whose output it takes, alone and directly
    """
    if sources.layout not in _FOLDING_FORMATS:
        return {}
    normed = sources.wiring.behind("BatchNormalization")
    unfolded: dict[str, Pairing] = {}
    for layer in layers:
        bias = biases.get(follows.get(layer.name, ""))
        if bias is not None and sources.owners[bias] not in normed and _can_be_inert(layer, pairings):
            unfolded |= _unfolded(layer, bias)
    return unfolded


def _can_be_inert(layer: Layer, pairings: Pairs) -> bool:
    """Whether the layer is a norm with a shift, and no source fills it."""
    is_free = not any(layer.full(leaf) in pairings for leaf in layer.arrays)
    return layer.kind == "batch_norm" and "bias" in layer.arrays and is_free


def _unfolded(layer: Layer, bias: str) -> dict[str, Pairing]:
    """With mean 0, variance 1 - eps and scale 1 a norm adds its shift and does nothing else."""
    eps = layer.settings["eps"]
    assert isinstance(eps, float), "our bug: a batch-norm without an eps"
    note = f"the file has this norm folded into the layer before it: it adds {bias} and changes nothing else"
    values = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - eps}
    filled = {
        layer.full(leaf): Pairing((), (Fill(value, layer.arrays[leaf].shape),), note)
        for leaf, value in values.items()
        if leaf in layer.arrays
    }
    return {**filled, layer.full("bias"): Pairing((bias,), (), note)}


def fold_as_requested(
    methods: Mapping[str, str], pairings: Pairs, sources: Sources
) -> tuple[dict[str, str], dict[str, Pairing]]:
    """(the other methods, the pairings of the means that take in a bias). Raises PlanError for an unknown array."""
    rest, folded = {}, {}
    for target, method in methods.items():
        match = _REQUEST.fullmatch(method)
        if match is None:
            rest[target] = method
            continue
        bias = match["source"]
        if bias not in sources.names:
            raise PlanError(f"The checkpoint has no array {bias!r} to fold. {near_names(bias, sources.names)}")
        # The pattern may choose a whole norm: its other arrays stay.
        if target.endswith("running_mean") and target in pairings and _is_plain(pairings[target]):
            folded[target] = _folded(pairings[target], bias)
    return rest, folded
