"""Trunks for the cache's tests: what `split` gives, made by hand and counting its work."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HandLeaf:
    """One tensor that crosses."""

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype = torch.float32

    @property
    def bytes_per_example(self) -> int:
        """Bytes of one row; a varying size counts once."""
        return self.dtype.itemsize * int(torch.tensor([size or 1 for size in self.shape]).prod())


@dataclass(frozen=True)
class HandCut:
    """All that crosses."""

    leaves: tuple[HandLeaf, ...]
    by_row: bool = True


class HandTrunk:
    """A frozen module as a trunk: `trunk(x)` gives {"hidden": module(x)}; counts calls and rows."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        self.module = module.eval().requires_grad_(False)
        self.cut = HandCut((HandLeaf("hidden", shape),))
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
    """Six inputs, four features."""
    torch.manual_seed(seed)
    return HandTrunk(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), (4,))


def tiny_data(count: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs (count, 6) and labels (count,) of three classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def plainly(trunk: HandTrunk, inputs: Tensor, batch_size: int) -> Tensor:
    """The features by a plain loop over the data set."""
    with torch.no_grad():
        return torch.cat([trunk.module(batch) for batch in inputs.split(batch_size)])
