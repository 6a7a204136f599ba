"""Run a trunk over a batch of inputs, and take each example's rows out of what it gives."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, final

import torch
from torch import Tensor

from regraft.caches.differences import filling_problem, tolerance_of
from regraft.caches.ragged import ragged_leaves
from regraft.caches.sampling import SampleBatch
from regraft.errors import Advice, CacheError
from regraft.examples import call
from regraft.splitting import FeatureComputer
from regraft.tensors.padding import Shapes
from regraft.tensors.trees import Inputs, map_tree

FILLED_BATCHES = 4  # of which an example is computed by itself too

Outputs = dict[str, Tensor]
Rows = dict[str, list[Tensor] | Tensor]  # of one leaf a tensor; where sizes vary a tensor for each row


@final
class Runner:
    """A trunk as it is called: on its device, without gradients, under a compute dtype, with the cut's dtypes."""

    def __init__(self, trunk: FeatureComputer, compute: str = "float32") -> None:
        self.trunk, self.compute = trunk, compute
        self.device, self.leaves = device_of(trunk), trunk.cut.leaves
        self.ragged = ragged_leaves(self.leaves)
        self._own_shapes = OwnShapes(trunk.row_shapes)
        self._filled_to_check = FILLED_BATCHES

    def __call__(self, inputs: Inputs) -> Outputs:
        """Leaf → what the trunk gives for the batch."""
        is_plain = self.compute == "float32"
        mode = nullcontext() if is_plain else torch.autocast(self.device.type, getattr(torch, self.compute))
        with torch.no_grad(), mode:
            outputs: Outputs = call(
                self.trunk, map_tree(lambda tensor: tensor.to(self.device, non_blocking=True), inputs)
            )
        if is_plain:
            return outputs
        dtypes = {leaf.name: leaf.dtype for leaf in self.leaves}
        return {name: rows.to(dtypes.get(name, rows.dtype)) for name, rows in outputs.items()}

    def rows(self, batch: SampleBatch, size: int) -> Rows:
        """The rows of a batch, copied to memory, computed in a batch of exactly `size` rows.

        Raises CacheError when the trunk gives something else than its cut describes.
        """
        outputs = self(filled_batch(batch.inputs, len(batch), size))
        self._check(outputs, size)
        self._refuse_dependence_on_filling(batch, outputs)
        rows: Rows = {}
        for leaf in self.leaves:
            values = outputs[leaf.name][: len(batch)].detach()
            if leaf.name in self.ragged:
                own = self._own_shapes.rows(leaf.name, values.cpu(), batch.inputs, batch.shapes)
                rows[leaf.name] = [row.clone(memory_format=torch.contiguous_format) for row in own]
            else:
                rows[leaf.name] = values.to("cpu", copy=True)
        return rows

    def _refuse_dependence_on_filling(self, batch: SampleBatch, outputs: Outputs) -> None:
        """Raise CacheError when an example's features are others by itself than in a batch that is filled up."""
        if not self._filled_to_check or batch.shapes is None or len(set(batch.shapes)) < 2:
            return
        self._filled_to_check -= 1
        own = {name: rows[: len(batch)] for name, rows in outputs.items()}
        tolerance = tolerance_of(self.compute, self.device.type)
        if problem := filling_problem(self, batch.inputs, own, batch.shapes, tolerance):
            raise CacheError(
                "The features of a short example depend on the padding, the zeros that fill its batch up to the "
                f"longest example: {problem}.\nGive all inputs the same length, or split the model with a mask of the "
                "padding (attention_mask) among its inputs: it is made for token ids that have none.",
                advice=[Advice("batch_size", 1, "compute each example by itself")],
            )

    def _check(self, outputs: Mapping[str, Tensor], count: int) -> None:
        for leaf in self.leaves:
            rows = outputs.get(leaf.name)
            if rows is None:
                raise CacheError(f"The trunk did not give {leaf.name!r}. It gave {', '.join(outputs)}.")
            is_odd = leaf.name not in self.ragged and tuple(rows.shape[1:]) != tuple(leaf.shape)
            if len(rows) != count or rows.dtype != leaf.dtype or is_odd:
                raise CacheError(
                    f"The trunk gave {leaf.name} with shape {tuple(rows.shape)} and {rows.dtype} for {count} examples; "
                    f"expected one row of shape {leaf.shape} and {leaf.dtype} for each example, as on the example of "
                    "split."
                )


@final
class OwnShapes:
    """Takes from a batch's outputs each row as long as its example is by itself.

    ask  gives each leaf's shape for one example (a batch of one without values); None for a size that only running
         can tell. A row whose shape is not known stays as the batch made it
    """

    def __init__(self, ask: Callable[..., Mapping[str, Sequence[int | None]]]) -> None:
        self.ask = ask
        self._known: dict[Shapes, Mapping[str, Sequence[int | None]]] = {}

    def rows(self, leaf: str, batch: Tensor, inputs: Inputs, shapes: Sequence[Shapes] | None) -> list[Tensor]:
        """The rows of one leaf.

        batch   (rows, …), each row filled up to the longest
        shapes  of each example's own inputs; None where nobody knows them
        """
        if shapes is None:
            return list(batch)
        own = (self._of(inputs, each).get(leaf, batch.shape[1:]) for each in shapes)
        return [row[tuple(slice(size) for size in shape)] for row, shape in zip(batch, own, strict=True)]

    def _of(self, inputs: Inputs, shapes: Shapes) -> Mapping[str, Sequence[int | None]]:
        if shapes not in self._known:
            each = iter(shapes)
            alone: Any = map_tree(
                lambda tensor: torch.empty((1, *next(each)), dtype=tensor.dtype, device="meta"), inputs
            )
            self._known[shapes] = call(self.ask, alone)
        return self._known[shapes]


def device_of(trunk: FeatureComputer) -> torch.device:
    """Where the trunk's tensors are; the CPU when it has none."""
    return next((tensor.device for tensor in trunk.frozen_tensors().values()), torch.device("cpu"))


def filled_batch(inputs: Inputs, count: int, size: int) -> Inputs:
    """A batch of `count` rows, filled to `size` by repeating them."""
    if count == size:
        return inputs
    indices = torch.arange(size) % count
    return map_tree(lambda tensor: tensor.index_select(0, indices.to(tensor.device)), inputs)


def first_rows(inputs: Inputs, count: int) -> Inputs:
    """The first rows of each tensor."""
    return map_tree(lambda tensor: tensor[:count], inputs)
