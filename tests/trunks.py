"""Trunks for the cache's tests: what `split` gives, made by hand and counting its work.

Weights and inputs are whole numbers and no sum reaches 2²⁴, so every sum is exact in float32, whatever its order. So a
row has the same bits at every place of a batch, on every processor.
"""

from math import prod

import torch
from torch import Tensor, nn

from regraft.caches.building import Builder
from regraft.caches.ids import Index
from regraft.caches.options import Options
from regraft.caches.rows import StoredRows
from regraft.caches.running import Runner
from regraft.caches.sampling import Samples
from regraft.cuts.cut import Cut, Leaf
from regraft.examples import TensorExamples
from regraft.splitting import FeatureComputer
from regraft.stores.memory import MemoryStore

EMPTY = Index(torch.empty(0, 16, dtype=torch.uint8).numpy())


def leaf_of(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, *, varying=()) -> Leaf:
    """One tensor that crosses."""
    return Leaf(name, shape, dtype, dtype.itemsize * prod(shape), varying)


class HandTrunk(FeatureComputer):
    """A frozen module as a trunk: `trunk(x)` gives {"hidden": module(x)}; counts calls and rows."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...], *, varying: tuple[int, ...] = ()) -> None:
        self.module = module.eval().requires_grad_(False)
        self.cut = Cut((leaf_of("hidden", shape, varying=varying),), work_saved=1.0)
        self.rows = self.calls = 0

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        self.rows += len(inputs)
        self.calls += 1
        return {"hidden": self.module(inputs)}

    def describe(self) -> dict:
        """The module as it prints."""
        return {"module": repr(self.module)}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers."""
        return dict(self.module.state_dict())


def tiny_trunk(seed: int = 0) -> HandTrunk:
    """Six inputs, four features; all whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    for parameter in module.parameters():
        parameter.data = torch.randint(-8, 9, parameter.shape, generator=generator).float()
    return HandTrunk(module, (4,))


def tiny_data(count: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs (count, 6), whole numbers from -32 to 32, and labels (count,) of three classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(-32, 33, (count, 6), generator=generator).float()
    return inputs, torch.randint(0, 3, (count,), generator=generator)


def plainly(trunk: HandTrunk, inputs: Tensor, batch_size: int) -> Tensor:
    """The features by a plain loop over the data set."""
    with torch.no_grad():
        return torch.cat([trunk.module(batch) for batch in inputs.split(batch_size)])


def filled(trunk: HandTrunk, count: int = 40, stored: int = 40) -> tuple[Samples, StoredRows]:
    """The samples of a data set, and the rows of a store that holds the first of them."""
    entry, (inputs, labels) = MemoryStore().entry("k", {}), tiny_data(count)
    run = Runner(trunk)
    Builder(run, Samples(TensorExamples(inputs[:stored], labels[:stored])), entry, Options(batch_size=8)).build()
    return Samples(TensorExamples(inputs, labels)), StoredRows(entry, run.leaves)
