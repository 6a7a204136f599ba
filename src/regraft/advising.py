"""Advise how many layers to reuse: one pass over the labelled examples, and a linear head at every place to cut."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.caches.features import Features
from regraft.caches.sampling import known_labels
from regraft.caching import cache_features
from regraft.cuts.arguments import by_name
from regraft.cuts.batches import batch_of
from regraft.cuts.beside import MASK, Wanted
from regraft.cuts.cut import Cut, Leaf
from regraft.cuts.frozen import all_frozen
from regraft.depths.depth_advice import DepthAdvice
from regraft.depths.input_rows import input_rows
from regraft.depths.points import Point
from regraft.depths.pooled_layers import PooledLayer, PooledLayers
from regraft.depths.ridge import predict_left_out
from regraft.depths.rows import ALL, INPUT, DepthRow, Measured, best_of, rows_of
from regraft.depths.sentences import LEAST_EXPLAINED, sentences_of
from regraft.depths.targets import Targets, targets_of
from regraft.examples import Examples, as_examples
from regraft.foundation.patterns import Patterns
from regraft.foundation.stopwatch import Stopwatch
from regraft.foundation.wording import counted
from regraft.layer_heads import arguments_of, points_in
from regraft.splitting import FeatureComputer, Trunk
from regraft.stores.store import Store
from regraft.tensors.trees import Inputs, map_tree, tensors_of

EXAMPLES = 2000  # more cost more than they tell
INPUT_LEAF = "the input"


def advise(
    model: nn.Module, dataset: object, *, cuts: Patterns | None = None, fresh: Patterns = (), task: str | None = None,
    control: bool = True, store: Store | str | os.PathLike[str] | None = None, batch_size: int = 64,
    examples: int = EXAMPLES, seed: int = 0,
) -> DepthAdvice:  # fmt: skip
    """Which layers of a restored model help a linear head on these examples, and which place to cut is the best.

    model       a restored model; nothing of it is changed
    dataset     labelled examples, as `cache_features` takes them
    cuts        patterns of the layers at whose outputs the model may be cut; None finds all
    fresh       patterns of parameters that were not restored: layers behind them are left out
    task        "classification", "multilabel" or "regression"; None decides by the labels: whole numbers are classes,
                rows of 0 and 1 several labels, fractions numbers
    control     measure the same model with shuffled weights too, by a second pass
    store       keeps the means of all layers, as in `cache_features`: they are computed once
    examples    how many at most are looked at; of more a random part, drawn by `seed`

    Every layer's output is averaged over its positions. A ridge regression on it, exact for each of 17 strengths,
    predicts each example by the others; one example of each class is left out at a time. The choice is the smallest
    squared error among the input, every layer, and all layers together. Intervals cover about 90 %.

    This tells what frozen layers are worth to a linear head. It does not tell whether training them is better.

    Raises SplitError for a model that cannot be cut, FreezeError for layers that would not be deterministic, DataError
    for labels that cannot be learnt.
    """
    data, watch = _some(as_examples(dataset), examples, seed), Stopwatch()
    with all_frozen(model):
        with watch("cuts"):
            first = data.gather(torch.arange(min(2, len(data))))[0]
            points = points_in(model, first, cuts, fresh)
            extractor = _LayersAndInput(model, first, points)
        with watch("features"):
            features = cache_features(extractor, data, store, batch_size=batch_size)
            matrices = _matrices(features, [INPUT_LEAF, *extractor.leaves])
        with watch("shuffled weights"):
            shuffled = _shuffled(model, points, data, batch_size, seed) if control else []
    targets = targets_of(features.labels, task)
    with watch("heads"):
        measured = [_measured(matrix, targets) for matrix in [*matrices, joined(matrices[1:])]]
    with watch("shuffled weights"):
        controls = [float(_measured(matrix, targets).scores.mean()) for matrix in shuffled]
    rows = rows_of(_candidates(points, matrices), measured, targets.variance)
    best = rows[best_of(measured)]
    if control:
        rows = [replace(row, shuffled=s) for row, s in zip(rows, [None, *controls, None], strict=True)]
    notes = _notes(dataset, data, dict(zip([row.name for row in rows], matrices, strict=False)))
    return _advice(rows, best, targets, points, notes, watch.seconds)


def _advice(
    rows: Sequence[DepthRow], best: DepthRow, targets: Targets, points: Sequence[Point], notes: Sequence[str],
    seconds: Mapping[str, float],
) -> DepthAdvice:  # fmt: skip
    """The advice of the rows: none where the best explains too little."""
    is_advised = best.explained >= LEAST_EXPLAINED
    return DepthAdvice(
        count=len(targets),
        outputs=targets.outputs,
        score=targets.score,
        chance=targets.chance,
        rows=tuple(rows),
        choice=best.name if is_advised else None,
        layers=_places_of(best, points) if is_advised else (),
        sentences=tuple(sentences_of(rows, best, targets.score)),
        notes=tuple(notes),
        seconds=seconds,
    )


def _some(data: Examples, most: int, seed: int) -> Examples:
    """The examples, or of more than `most` as many, each class with its share where the labels are known."""
    if len(data) <= most:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    labels = known_labels(data)
    if isinstance(labels, Tensor) and labels.ndim == 1 and not labels.is_floating_point():
        order = order[labels[order].argsort(stable=True)]  # by class, at random in each
        return data.subset(order[torch.arange(most) * len(data) // most].sort().values)
    return data.subset(order[:most].sort().values)


@final
class _LayersAndInput(FeatureComputer):
    """The means of every place to cut, and the input as plain features.

    leaves  those of the places, in order
    """

    def __init__(self, model: nn.Module, first: Inputs, points: Sequence[Point]) -> None:
        args, kwargs = arguments_of(first)
        self.model = model
        wanted = Wanted(tuple(point.place for point in points), (), "mean")
        self.trunk = Trunk(model, batch_of(args, kwargs), wanted, only_evaluation=True)
        self.leaves = [f"mean({point.place})" for point in points]
        rows = self._input_rows(args, kwargs)
        leaf = Leaf(INPUT_LEAF, tuple(rows.shape[1:]), rows.dtype, rows[0].numel() * rows.element_size())
        self.cut = self._with_input(self.trunk.cut, leaf)

    def __call__(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """The rows of a batch."""
        means = self.trunk(*args, **kwargs)
        return {INPUT_LEAF: self._input_rows(args, kwargs), **{leaf: means[leaf] for leaf in self.leaves}}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Those of the trunk."""
        return self.trunk.frozen_tensors()

    def describe(self) -> dict[str, Any]:
        """What the means depend on, and how the input is averaged."""
        return {**self.trunk.describe(), "input": INPUT_LEAF}

    def cut_for(self, batch_size: int) -> Cut:
        """As that of the trunk."""
        return self._with_input(self.trunk.cut_for(batch_size), self.cut.leaves[0])

    def row_shapes(self, *args: object, **kwargs: object) -> dict[str, tuple[int | None, ...]]:
        """Each leaf's shape for one example."""
        return {INPUT_LEAF: self.cut.leaves[0].shape, **self.trunk.row_shapes(*args, **kwargs)}

    def _with_input(self, cut: Cut, leaf: Leaf) -> Cut:
        return replace(cut, leaves=(leaf, *(own for own in cut.leaves if own.name in self.leaves)))

    def _input_rows(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Tensor:
        mask = by_name(self.model, args, kwargs).get(MASK)
        return input_rows(tensors_of((args, dict(kwargs)))[0], mask if isinstance(mask, Tensor) else None)


def _matrices(features: Features, leaves: Sequence[str]) -> list[Tensor]:
    """The rows (count, columns) float64 of each leaf."""
    rows, _ = features.gather(torch.arange(len(features)))
    return [rows[leaf].reshape(len(features), -1).double().cpu() for leaf in leaves]


def joined(matrices: Sequence[Tensor]) -> Tensor:
    """All columns, those of each matrix around their mean and scaled so that every matrix has the same energy."""
    matrices = [matrix.nan_to_num(0.0, 0.0, 0.0) for matrix in matrices]
    centred = [matrix - matrix.mean(0) for matrix in matrices]
    return torch.cat([matrix / matrix.square().sum(1).mean().sqrt().clamp(min=1e-9) for matrix in centred], 1)


def _measured(matrix: Tensor, targets: Targets) -> Measured:
    """What a linear head reaches on these features; values that are not finite count as 0, see `_notes`."""
    finite = matrix.nan_to_num(0.0, 0.0, 0.0)
    left_out = predict_left_out(finite, targets.values, targets.blocks)
    return Measured(targets.scores(left_out), left_out.squared_error)


def _shuffled(model: nn.Module, points: Sequence[Point], data: Examples, batch_size: int, seed: int) -> list[Tensor]:
    """The same means of a copy of the model whose weights are shuffled."""
    twin = PooledLayers(with_shuffled_weights(model, seed), [PooledLayer.of(point) for point in points])
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batches: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for _, inputs, _ in data.in_order(torch.arange(len(data)).split(batch_size)):
            args, kwargs = arguments_of(map_tree(lambda tensor: tensor.to(device), inputs))
            batches.append({place: rows.cpu() for place, rows in twin.each(*args, **kwargs).items()})
    return [torch.cat([rows[point.place] for rows in batches]).double() for point in points]


def with_shuffled_weights(model: nn.Module, seed: int) -> nn.Module:
    """A copy in which every weight array's numbers are permuted within each row, with random signs.

    Their sizes stay, and what was learnt is lost. Biases and norms stay as they are.
    """
    twin, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.ndim < 2 or not parameter.is_floating_point():
                continue
            flat = parameter.detach().cpu().flatten(1)
            order = torch.rand(flat.shape, generator=generator).argsort(1)
            signs = 2.0 * torch.randint(2, flat.shape, generator=generator) - 1
            parameter.copy_((flat.gather(1, order) * signs.to(flat.dtype)).reshape(parameter.shape))
    return twin


def _candidates(points: Sequence[Point], matrices: Sequence[Tensor]) -> list[DepthRow]:
    """The rows before anything is measured."""
    empty: dict[str, Any] = dict.fromkeys(("score", "standard_error", "explained", "difference", "low", "high"), 0.0)
    empty["is_tied"] = False
    widths = [matrix.shape[1] for matrix in matrices]
    rows = [DepthRow(INPUT, "input", bytes_per_example=4 * widths[0], work_saved=0.0, columns=widths[0], **empty)]
    rows += [
        DepthRow(point.layer, "layer", bytes_per_example=point.bytes_per_example, work_saved=point.work_saved,
                 columns=width, **empty)
        for point, width in zip(points, widths[1:], strict=True)
    ]  # fmt: skip
    total, work = sum(widths[1:]), max(point.work_saved for point in points)
    return [*rows, DepthRow(ALL, "all", bytes_per_example=4 * total, work_saved=work, columns=total, **empty)]


def _places_of(best: DepthRow, points: Sequence[Point]) -> tuple[str, ...]:
    """What `head_on_layers` takes for this row."""
    return tuple(point.place for point in points if best.kind == "all" or point.layer == best.name)


def _notes(dataset: object, data: Examples, matrices: Mapping[str, Tensor]) -> list[str]:
    """What was assumed."""
    whole = len(as_examples(dataset))
    notes = [f"{counted(len(data), 'example')} of {whole:,} were looked at"] if whole > len(data) else []
    broken = {name: int((~matrix.isfinite()).sum()) for name, matrix in matrices.items()}
    return notes + [f"{name}: {counted(n, 'value')} not finite, taken as 0" for name, n in broken.items() if n]
