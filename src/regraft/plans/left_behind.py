"""What stays behind in the checkpoint although its layer is reused: without it the layer computes something else."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from regraft.errors import Advice
from regraft.plans.layers import Layer, TargetArray
from regraft.plans.layouts import VARIANCE
from regraft.plans.match_by_name import Pairing
from regraft.plans.merging import ADAPTER
from regraft.plans.parametrized import tensor_of
from regraft.plans.rows import RequirementRow, Row, Setting
from regraft.plans.settings import Takers, setting_advice
from regraft.plans.sources import Sources

WITH_BIAS = ("conv", "depthwise", "conv_transpose", "dense")

_WHOLE = (*WITH_BIAS, "batch_norm", "norm", "embedding")  # kinds whose modules have no layers inside
_SAVED = re.compile(r"(?P<layer>.+)\.modules_to_save\.[^.]+(?:\..+)?")  # of PEFT: what replaces the original module
_VARIANCE = re.compile(rf".*[./](?:{VARIANCE})(?::\d+)?")
# Tables that a network computes for itself: no weights, and the same in every network of its kind.
_TABLES = re.compile(
    r"num_batches_tracked|position_ids|relative_position_index|relative_coords_table|attn_mask|masked_bias|inv_freq|"
    r"freqs(_cis)?|(cos|sin)_cached|total_(ops|params)"
)


def left_behind(rest: Sequence[Row], takers: Takers, sources: Sources) -> tuple[RequirementRow, ...]:
    """One row for each unused array of a source layer whose other arrays are used, or of an adapter or a norm of it.

    rest    the rows of arrays that fill nothing
    takers  source layer → the layers of ours that take its arrays
    """
    unused = [row.sources[0] for row in rest if row.status == "unused" and not _is_table(row.sources[0], sources)]
    rows = [
        _left_row(name, source_layer, layer, sources)
        for name in unused
        for source_layer in _layers_of(name, takers, sources)
        for layer in takers[source_layer]
    ]
    return (*rows, *_left_norms(unused, takers, sources))


def _is_table(name: str, sources: Sources) -> bool:
    """Counters and integers are no weights, nor is what the network computes for itself."""
    info = sources.infos[name]
    leaf = name.replace("/", ".").rpartition(".")[2]
    return info.dtype.startswith(("int", "uint", "bool")) or _TABLES.fullmatch(leaf) is not None


def _layers_of(name: str, takers: Takers, sources: Sources) -> list[str]:
    """The reused source layer that the array belongs to: its own, or the one that it adapts or is part of."""
    owner, adapter, saved = sources.owners[name], ADAPTER.fullmatch(name), _SAVED.fullmatch(name)
    possible = [owner] if adapter is None else [owner, adapter["layer"], f"{adapter['layer']}.base_layer"]
    possible += [] if saved is None else [f"{saved['layer']}.original_module"]
    # What lies below a layer works inside of it: a bottleneck, an observer, a table of deltas.
    ends = [index for index, letter in enumerate(owner) if letter == "."]
    around = [owner[:end] for end in reversed(ends)]
    possible += [layer for layer in around if all(taker.kind in _WHOLE for taker in takers.get(layer, ()))]
    return [layer for layer in possible if layer in takers][:1]


def _left_row(name: str, source_layer: str, layer: Layer, sources: Sources) -> RequirementRow:
    info = sources.infos[name]
    leaf = name[len(source_layer.removesuffix(".base_layer")) :].lstrip("./").replace("/", ".")
    is_bias = leaf in ("bias", "biases")
    adoptable = is_bias and can_have_bias(layer)
    note = f"The source layer has the array {name}, and {layer.class_name} has no array for it."
    if is_bias:
        note += (
            f" Add it to the model: model.{layer.name}.bias = nn.Parameter(torch.zeros({info.count})), or fold it into "
            "the batch-norm behind the layer (docs/how-to/channels.md)."
        )
    setting = Setting(layer.name, "bias" if is_bias else leaf)
    required = f"array {info.shape}"
    row = RequirementRow(setting, required, None, "differs", source_layer, note, adoptable=adoptable)
    if is_factor(leaf):
        return row
    advice = setting_advice(row, keep="leave the array behind")
    if ADAPTER.fullmatch(name):
        effect = "merge the adapter: W + SCALE · B A, where SCALE is lora_alpha / r"
        advice = (Advice("adapt", {layer.full("weight"): "lora SCALE"}, effect), *advice)
    return replace(row, advice=advice)


def _left_norms(unused: Sequence[str], takers: Takers, sources: Sources) -> list[RequirementRow]:
    """A row for each norm that no layer takes, between two layers that are reused: the model computes without it."""
    order = list(dict.fromkeys(map(sources.owners.__getitem__, sources.names)))
    last_reused = max((index for index, layer in enumerate(order) if layer in takers), default=-1)
    variances = {sources.owners[name]: name for name in unused if _VARIANCE.fullmatch(name)}
    rows: list[RequirementRow] = []
    for source_layer, norm in pairwise(order[:last_reused]):
        if norm in variances.keys() - takers.keys():
            size = sources.infos[variances[norm]].count
            folding = filter(partial(_can_fold, size), takers.get(source_layer, ()))
            rows += map(partial(_norm_row, norm, source_layer), folding)
    return rows


def _can_fold(size: int, layer: Layer) -> bool:
    """Whether a norm of so many channels fits behind the layer."""
    return layer.kind in WITH_BIAS and size in layer.shape_of("weight")[:2]


def _norm_row(norm: str, source_layer: str, layer: Layer) -> RequirementRow:
    note = f"The norm {norm} stands behind the source layer, and no layer of the model takes it."
    setting = Setting(layer.name, norm.replace("/", ".").rpartition(".")[2])
    row = RequirementRow(setting, f"norm {norm}", None, "differs", source_layer, note)
    methods = {layer.full(leaf): f"fold norm {norm}" for leaf in ("weight", "bias") if leaf in layer.arrays}
    fold = Advice("adapt", methods, "fold the norm into the layer before it")
    return replace(row, advice=(fold, *setting_advice(row, keep="leave the norm behind")))


def is_factor(leaf: str) -> bool:
    """Whether the layer's weight is computed from this array: without it the rest of the layer means nothing."""
    return tensor_of(leaf) != leaf


def can_have_bias(layer: Layer) -> bool:
    """Whether `apply_plan` can give the layer a bias."""
    return layer.settings.get("bias") is False and layer.kind in WITH_BIAS and "weight" in layer.arrays


def give_biases(
    layers: Sequence[Layer], biases: Mapping[str, str], sources: Sources
) -> tuple[tuple[Layer, ...], dict[str, Pairing], tuple[RequirementRow, ...]]:
    """(layers with a bias more, the pairings of these biases, the rows that adopt them).

    biases   layer of ours without a bias → the source's bias that it takes over
    """
    given = tuple(_with_bias(layer) if layer.name in biases else layer for layer in layers)
    pairings = {layer.full("bias"): Pairing((biases[layer.name],)) for layer in given if layer.name in biases}
    rows = tuple(
        RequirementRow(
            Setting(layer, "bias"),
            f"array {sources.infos[bias].shape}",
            None,
            "adopted",
            sources.owners[bias],
            "apply_plan adds it",
            adoptable=True,
        )
        for layer, bias in biases.items()
    )
    return given, pairings, rows


def _with_bias(layer: Layer) -> Layer:
    weight = layer.arrays["weight"]
    groups = layer.settings.get("groups", 1)
    is_transposed = layer.kind == "conv_transpose" and isinstance(groups, int)
    outputs = weight.shape[1] * groups if is_transposed else weight.shape[0]  # type: ignore[operator]  # an int
    arrays = {**layer.arrays, "bias": TargetArray((outputs,), weight.dtype)}
    return replace(layer, arrays=arrays, settings={**layer.settings, "bias": True})
