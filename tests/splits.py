"""Small models to split, and a split in parts, for the tests of the split's machinery."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from regraft.cuts.batches import Batch, batch_of
from regraft.cuts.choosing import Choice, Rules, choose_cut
from regraft.cuts.head_run import run_head
from regraft.cuts.program import Features, Guards, Program
from regraft.cuts.record import Record
from regraft.cuts.search import Proven, record_sizes
from regraft.cuts.sizes import Sizes
from regraft.cuts.trunk_run import run_trunk
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
    return record, sizes, batch, choose_cut(record, sizes, Rules(**options))


def program_of(model: nn.Module, *args: Tensor, **options: object) -> Program:
    """A program of the model in evaluation, not yet proven; the layout of its leaves is known."""
    record, sizes, batch, choice = parts(model, *args, **options)
    program = Program(model.eval(), False, record, sizes, choice, batch)
    return replace(program, layouts=run_trunk(program, Guards(), args, {}).layouts)


def features_of(program: Program | Proven, *args: object) -> Features:
    """What the trunk of a program gives."""
    guards = program.guards if isinstance(program, Proven) else Guards()
    return run_trunk(program.program if isinstance(program, Proven) else program, guards, args, {}).features


def output_of(program: Program | Proven, features: Features) -> Tensor:
    """What the head of a program gives."""
    guards = program.guards if isinstance(program, Proven) else Guards()
    return run_head(program.program if isinstance(program, Proven) else program, guards, features)


def example() -> Tensor:
    """Four rows for a `Branch`."""
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
