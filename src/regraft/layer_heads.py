"""A head on several layers: one linear layer on the means of their outputs, which is all that trains."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite, log2
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.cuts.batches import Arguments, batch_of
from regraft.cuts.beside import INPUT_OF
from regraft.cuts.frozen import freeze_chosen, names_of
from regraft.cuts.search import record_sizes
from regraft.depths.points import Point, cut_points, points_of_places
from regraft.depths.pooled_layers import PooledLayer, PooledLayers
from regraft.errors import SplitError
from regraft.examples import as_examples
from regraft.foundation.patterns import Patterns, as_patterns, choose, choose_whole, chosen, exact_pattern
from regraft.tensors.keeping import undisturbed
from regraft.tensors.trees import Inputs, map_tree

SCALED_BY = 256  # examples, the first ones, by which the layers' scales are measured


@final
class HeadOnLayers(nn.Module):
    """A frozen model's layers and one linear layer on the means of their outputs, joined.

    trunk   gives the joined means
    linear  what trains

    `split`, `cache_features` and `train` take it as any model: the joined means are the features, and the exact solver
    finds the head.
    """

    def __init__(self, body: nn.Module, layers: Sequence[PooledLayer], outputs: int) -> None:
        super().__init__()
        self.trunk = PooledLayers(body, layers)
        self.linear = nn.Linear(self.trunk.columns, outputs)

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """(rows, outputs), for the arguments that the frozen model takes."""
        scores: Tensor = self.linear(self.trunk(*args, **kwargs))
        return scores

    def settings(self) -> dict[str, Any]:
        """Plain data by which `from_settings` builds it again around a model of the same kind."""
        return {"layers": [asdict(layer) for layer in self.trunk.layers], "outputs": self.linear.out_features}

    @classmethod
    def from_settings(cls, body: nn.Module, settings: Mapping[str, Any]) -> "HeadOnLayers":
        """The module of `settings` around a new body, with initial weights."""
        layers = [PooledLayer(**{**layer, "positions": tuple(layer["positions"])}) for layer in settings["layers"]]
        return cls(body, layers, settings["outputs"])


def head_on_layers(
    model: nn.Module, dataset: object, outputs: int, *, layers: Patterns | None = None, fresh: Patterns = ()
) -> HeadOnLayers:
    """A model whose layers are frozen and whose head is one linear layer on several of them.

    model    a restored model; it becomes part of the result, and is frozen as a whole
    dataset  examples as `cache_features` takes them: two show where the model can be cut, and the first 256 how large
             the layers' outputs are, so that every layer counts alike
    outputs  of the head: the number of classes
    layers   patterns of layers, or `advice.layers`; None takes every layer at which the model can be cut
    fresh    patterns of parameters that were not restored: layers behind them are not taken

    The output of each layer is averaged over its positions, to one number for each channel.

    Raises SplitError for a layer whose output has no row for each example, or no axis that is known to hold the
    channels; PatternError for a pattern that matches nothing; FreezeError as `freeze`.
    """
    examples = as_examples(dataset)
    first = examples.gather(torch.arange(min(2, len(examples))))[0]
    pooled = [PooledLayer.of(point) for point in points_in(model, first, layers, fresh)]
    many = examples.gather(torch.arange(min(SCALED_BY, len(examples))))[0]
    freeze_chosen(model, set(names_of(model)))
    return HeadOnLayers(model, scaled(model, pooled, many), outputs)


def body_of(model: nn.Module) -> nn.Module:
    """The frozen model of a head on several layers; any other model itself."""
    return model.trunk.body if isinstance(model, HeadOnLayers) else model


def points_in(model: nn.Module, inputs: Inputs, layers: Patterns | None, fresh: Patterns = ()) -> list[Point]:
    """The places of these layers, or all at which the model can be cut; nothing in the model changes.

    inputs  of two examples
    """
    args, kwargs = arguments_of(inputs)
    record, sizes = record_sizes(model, batch_of(args, kwargs), is_training=False)
    if layers is None:
        found = cut_points(record, sizes, chosen([name for name, _ in model.named_parameters()], fresh))
    else:
        found = points_of_places(record, sizes, _places(model, layers))
    if not found:
        raise SplitError(
            "No layer was found at which the model can be cut: on the way from its first input to its output something "
            "always passes each layer by.\nPass the names of layers."
        )
    return found


def scaled(model: nn.Module, layers: Sequence[PooledLayer], inputs: Inputs) -> list[PooledLayer]:
    """The layers with scales at which each has the same energy around its mean on these inputs, and a column near 1.

    Powers of two: the same on every processor, and exact. A variance of 1 is what strengths of regularisation expect.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    args, kwargs = arguments_of(map_tree(lambda tensor: tensor.to(device), inputs))
    with undisturbed(model, is_training=False), torch.no_grad():
        vectors = PooledLayers(model, layers).each(*args, **kwargs)
    share = sum(layer.columns for layer in layers) / len(layers)
    return [replace(layer, scale=layer.scale * _scale_of(vectors[layer.place], share)) for layer in layers]


def _scale_of(vectors: Tensor, wanted: float) -> float:
    """The power of two that brings the energy of the vectors around their mean near the wanted one."""
    spread = vectors.double() - vectors.double().mean(0)
    energy = float(spread.square().sum(1).mean()) / wanted
    return 2.0 ** -round(log2(energy) / 2) if isfinite(energy) and energy > 0 else 1.0


def arguments_of(inputs: Inputs) -> Arguments:
    """Inputs as positional and keyword arguments, by their kind, as `examples.call` passes them."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _places(model: nn.Module, layers: Patterns) -> list[str]:
    """The layers that the patterns match as a whole; "input of layer" stands for itself."""
    names = [name for name, _ in model.named_modules() if name]
    inputs = [name for name in as_patterns(layers) if name.startswith(INPUT_OF)]
    patterns = [pattern for pattern in as_patterns(layers) if pattern not in inputs]
    choose(names, [exact_pattern(name.removeprefix(INPUT_OF)) for name in inputs] or ".*")
    return [*inputs, *(choose_whole(names, patterns) if patterns else ())]
