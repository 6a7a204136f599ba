"""What the user merges into a layer: an adapter beside its weight (LoRA), a norm behind it that the model lacks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import PlanError
from regraft.foundation.wording import near_names
from regraft.operations.joins import AddProduct, BiasOfNorm, ScaleByNorm
from regraft.operations.moves import Transpose
from regraft.plans.adapting import LORA
from regraft.plans.layers import Layer
from regraft.plans.layouts import BIAS, MEAN, NORM_BIAS, NORM_WEIGHT, VARIANCE
from regraft.plans.match_by_name import Pairing
from regraft.plans.sources import Sources

_NORM = re.compile(r"fold norm (?P<norm>\S+)(?: eps (?P<eps>\d+(?:\.\d+)?(?:e-?\d+)?))?")
_DEFAULT_EPS = {"torch": 1e-5, "flax": 1e-5, "tensorflow": 1e-3}  # of the frameworks' batch-norms
_DOWN = re.compile(r"lora_A|lora_down|lora_a")
_UP = re.compile(r"lora_B|lora_up|lora_b")
# The second half of an adapter's names: ".base_layer" is what holds the layer's own arrays then.
ADAPTER = re.compile(r"(?P<layer>.+?)\.(?:lora_\w+|hada_\w+|lokr_\w+|ia3_\w+|b?oft_\w+|dora_\w+|vera_\w+)(?:\..+)?")


def merge_as_requested(
    methods: Mapping[str, str], pairings: Mapping[str, Pairing], sources: Sources, layers: Mapping[str, Layer]
) -> tuple[dict[str, str], dict[str, Pairing]]:
    """(the other methods, the pairings that take an adapter or a norm in).

    Raises PlanError for an adapter or a norm that is not there.
    """
    merged: dict[str, Pairing] = {}
    rest = {}
    for target, method in methods.items():
        lora, norm = re.fullmatch(LORA, method), _NORM.fullmatch(method)
        if norm is not None:
            merged |= _with_norm(target, layers[target], norm, pairings, sources)
        elif lora is None:
            rest[target] = method
        elif target in pairings and target.endswith("weight"):
            merged[target] = _with_adapter(pairings[target], float(lora["scale"]), sources)
    return rest, merged


def _with_adapter(pairing: Pairing, scale: float, sources: Sources) -> Pairing:
    """W + scale · B A."""
    layer = sources.owners[pairing.sources[0]].removesuffix(".base_layer")
    below = [name for name in sources.names if name.startswith(layer + ".")]
    up, down = ([name for name in below if pattern.search(name[len(layer) :])] for pattern in (_UP, _DOWN))
    if len(up) != 1 or len(down) != 1:
        raise PlanError(f"{layer} has no single adapter lora_A and lora_B in the checkpoint: {', '.join(below)}.")
    is_turned = any(isinstance(operation, Transpose) for operation in pairing.operations)
    product = AddProduct(scale, transposed=is_turned)
    note = f"the adapter {up[0]}, {down[0]} is merged: W + {scale:g} · B A"
    return replace(
        pairing, sources=(*pairing.sources, *up, *down), operations=(product, *pairing.operations), note=note
    )


def _with_norm(
    target: str, layer: Layer, request: re.Match[str], pairings: Mapping[str, Pairing], sources: Sources
) -> dict[str, Pairing]:
    """The kernel times the norm's scale, or the bias of both together."""
    norm = request["norm"]
    scale, shift, mean, variance = _arrays_of_norm(norm, sources)
    eps, origin = _eps(request, sources, mean)
    note = f"{norm} is folded into the layer before it, eps {eps:g}{origin}"
    kernel = pairings.get(layer.full("weight"))
    if target == layer.full("weight") and kernel is not None:
        axis, moved = int(layer.kind == "conv_transpose"), kernel.operations
        if len(moved) == 1 and isinstance(moved[0], Transpose):  # which would move the norm's arrays too
            axis = moved[0].axes[axis]
        fold = ScaleByNorm(axis, eps, has_scale=bool(scale))
        names = (*kernel.sources, *scale, *variance)
        return {target: replace(kernel, sources=names, operations=(fold, *moved), note=note)}
    if target != layer.full("bias"):
        return {}
    own = pairings[target].sources if target in pairings else _own_bias(kernel, sources)
    bias = BiasOfNorm(eps, has_bias=bool(own), has_scale=bool(scale), has_shift=bool(shift))
    return {target: Pairing((*own, *mean, *variance, *scale, *shift), (bias,), note)}


def _arrays_of_norm(norm: str, sources: Sources) -> list[tuple[str, ...]]:
    """The norm's scale, shift, mean and variance, the first two if it has them. Raises PlanError for no such norm."""
    below = {name[len(norm) + 1 :].split(":")[0]: name for name in sources.names if sources.owners[name] == norm}
    if not below:
        owners = dict.fromkeys(sources.owners.values())
        raise PlanError(f"The checkpoint has no norm {norm!r} to fold. {near_names(norm, owners)}")
    arrays = [_leaf(pattern, below) for pattern in (NORM_WEIGHT, NORM_BIAS, MEAN, VARIANCE)]
    if not all(arrays[2:]):
        raise PlanError(f"{norm} keeps no mean and variance ({', '.join(below)}): it cannot be folded.")
    return arrays


def _eps(request: re.Match[str], sources: Sources, arrays: tuple[str, ...]) -> tuple[float, str]:
    """(eps, where it comes from): the user's, the file's, or the default of the framework that wrote the file."""
    recorded = request["eps"] or sources.facts_of(arrays).get("eps")
    if recorded:
        return float(recorded), ""  # type: ignore[arg-type]  # a number, or the text of one
    if sources.layout not in _DEFAULT_EPS:
        norm = request["norm"]
        raise PlanError(
            f"The checkpoint does not record the eps of the norm {norm!r}. Write it behind the norm's name, as in "
            f'"fold norm {norm} eps 0.001".'
        )
    return _DEFAULT_EPS[sources.layout], f", the default of {sources.layout}, because the file does not record it"


def _leaf(pattern: str, below: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for leaf, name in below.items() if re.fullmatch(pattern, leaf))


def _own_bias(kernel: Pairing | None, sources: Sources) -> tuple[str, ...]:
    owner = sources.owners[kernel.sources[0]] if kernel is not None and kernel.sources else None
    names: Sequence[str] = [name for name in sources.names if sources.owners[name] == owner]
    return tuple(name for name in names if re.fullmatch(rf".*[./](?:{BIAS})", name))
