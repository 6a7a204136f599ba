"""The means of several layers' outputs as one vector for each example: a plain module around a frozen model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from regraft.cuts.arguments import by_name
from regraft.cuts.beside import INPUT_OF, MASK, Mean
from regraft.cuts.program import RowLayout
from regraft.depths.points import Point
from regraft.errors import SplitError
from regraft.tensors.trees import tensors_of


@dataclass(frozen=True)
class PooledLayer:
    """A layer whose output is averaged: plain data, by which a saved model is built again.

    place      the layer's name, or "input of" it
    axis       of the tensor along which the examples lie
    each       how many consecutive positions along it belong to one example
    positions  axes of an example's own tensor over which the mean is taken
    is_masked  whether only positions of the model's argument `attention_mask` count
    columns    numbers for each example
    scale      by which they are multiplied, so that every layer counts alike
    """

    place: str
    axis: int
    each: int
    positions: tuple[int, ...]
    is_masked: bool
    columns: int
    scale: float = 1.0

    @classmethod
    def of(cls, point: Point) -> "PooledLayer":
        """The layer of a point. Raises SplitError where a length of the inputs decides how many positions one has."""
        axis, each = point.rows
        if not each:
            raise SplitError(f"{point.place}: how many positions belong to one example depends on the inputs' length.")
        return cls(point.place, axis, each, point.mean.axes, point.mean.mask >= 0, point.width)

    def vector_of(self, tensor: Tensor, mask: Tensor | None) -> Tensor:
        """(rows, columns) of the layer's tensor, scaled."""
        rows = RowLayout(self.axis, self.each, ((), ())).to_rows(tensor, None)
        mean = Mean(self.positions).of(rows, mask if self.is_masked else None)
        return mean.reshape(len(mean), -1).float() * self.scale


@final
class PooledLayers(nn.Module):
    """Runs a model and gives the means of several layers' outputs, joined: (rows, columns) float32.

    body    the model; what it gives itself is not used
    layers  in order
    """

    def __init__(self, body: nn.Module, layers: Sequence[PooledLayer]) -> None:
        super().__init__()
        self.body, self.layers = body, tuple(layers)

    @property
    def columns(self) -> int:
        """Numbers for each example."""
        return sum(layer.columns for layer in self.layers)

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """The joined means, for the arguments that the model takes."""
        return torch.cat(list(self.each(*args, **kwargs).values()), 1)

    def each(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Place → (rows, columns) of one layer."""
        mask = by_name(self.body, args, kwargs).get(MASK)
        seen: dict[str, Tensor] = {}

        def note(layer: PooledLayer, value: object) -> None:
            tensors = tensors_of(value)
            if tensors and layer.place not in seen:  # at once: the next layer may write into it
                seen[layer.place] = layer.vector_of(tensors[0], mask if isinstance(mask, Tensor) else None)

        with _watched(dict(self.body.named_modules()), self.layers, note):
            self.body(*args, **kwargs)
        missing = [layer.place for layer in self.layers if layer.place not in seen]
        if missing:
            raise SplitError(f"The model did not run {', '.join(missing)} on this batch.")
        return {layer.place: seen[layer.place] for layer in self.layers}


@contextmanager
def _watched(
    modules: Mapping[str, nn.Module], layers: Sequence[PooledLayer], note: Callable[[PooledLayer, object], None]
) -> Iterator[None]:
    """While in the block, `note` is given what each layer's module gives, or is given."""
    handles = []
    for layer in layers:
        module = modules[layer.place.removeprefix(INPUT_OF)]
        if layer.place.startswith(INPUT_OF):
            handles.append(module.register_forward_pre_hook(partial(_note_input, note, layer), with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(partial(_note_output, note, layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note_input(note: Callable[[PooledLayer, object], None], layer: PooledLayer, _: nn.Module, *given: object) -> None:
    note(layer, given)


def _note_output(
    note: Callable[[PooledLayer, object], None], layer: PooledLayer, _: nn.Module, __: object, output: object
) -> None:
    note(layer, output)
