"""What stays behind in the checkpoint although its layer is reused: without it the layer computes something else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.arrays import ArrayInfo
from regraft.plans.layers import Layer, TargetArray
from regraft.plans.match_by_name import Pairing
from regraft.plans.parametrized import tensor_of
from regraft.plans.rows import RequirementRow, Row, Setting
from regraft.plans.settings import Takers, setting_advice
from regraft.plans.sources import Sources

WITH_BIAS = ("conv", "depthwise", "conv_transpose", "dense")


def left_behind(rest: Sequence[Row], takers: Takers, sources: Sources) -> tuple[RequirementRow, ...]:
    """One row for each unused array of a source layer whose other arrays are used.

    rest    the rows of arrays that fill nothing
    takers  source layer → the layers of ours that take its arrays
    """
    unused = [row.sources[0] for row in rest if row.status == "unused"]
    return tuple(
        _left_row(name, sources.infos[name], layer, sources)
        for name in unused
        for layer in takers.get(sources.owners[name], ())
    )


def _left_row(name: str, info: ArrayInfo, layer: Layer, sources: Sources) -> RequirementRow:
    leaf = name.replace("/", ".").rpartition(".")[2]
    is_bias = leaf in ("bias", "biases")
    note = f"The source layer has the array {name}, and {layer.class_name} has no array for it."
    if is_bias:
        note += (
            f" Add it to the model: model.{layer.name}.bias = nn.Parameter(torch.zeros({info.count})), or fold it into "
            "the batch-norm behind the layer (how-to/channels)."
        )
    row = RequirementRow(
        Setting(layer.name, "bias" if is_bias else leaf),
        f"array {info.shape}",
        None,
        "differs",
        sources.owners[name],
        note,
        adoptable=is_bias and can_have_bias(layer),
    )
    return replace(row, advice=() if is_factor(leaf) else setting_advice(row, keep="leave the array behind"))


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
