"""Small models to split, and a split in parts, for the tests of the split's machinery."""

import torch
from torch import Tensor, nn

from regraft.cuts.batches import Batch, batch_of
from regraft.cuts.choosing import Choice, choose_cut
from regraft.cuts.record import Record
from regraft.cuts.replay import Replay
from regraft.cuts.search import record_sizes
from regraft.cuts.sizes import Sizes
from regraft.freezing import freeze


class Branch(nn.Module):
    """Two frozen layers and a skip; a trainable last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x).relu()
        return self.last(self.second(first) + first)


def frozen(model: nn.Module, layers: str = "first|second") -> nn.Module:
    """The model with these layers frozen."""
    freeze(model, layers)
    return model


def parts(model: nn.Module, *args: Tensor, **options: object) -> tuple[Record, Sizes, Batch, Choice]:
    """Record, sizes, batch and choice for a model in evaluation."""
    batch = batch_of(args, {})
    record, sizes = record_sizes(model, batch, is_training=False)
    return record, sizes, batch, choose_cut(record, sizes, **options)


def replay(model: nn.Module, *args: Tensor, **options: object) -> Replay:
    """A replay of the model in evaluation, not yet proven."""
    record, sizes, batch, choice = parts(model, *args, **options)
    return Replay(model.eval(), record, sizes, choice, batch)


def example() -> Tensor:
    """Four rows for a `Branch`."""
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
