"""Small models with a frozen trunk and a head, and data for them, for the tests of training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regraft.caches.features import Features
from regraft.caching import cache_features
from regraft.freezing import freeze
from regraft.learning.losses import known_loss
from regraft.learning.objective import Objective
from regraft.learning.request import Request
from regraft.splitting import Head, split

NUMBERS = ("mean_squared_error", "mean_absolute_error", "huber")  # losses


def on_grid(module: nn.Module, step: float = 2**-6) -> nn.Module:
    """Round the parameters to multiples of a power of two.

    With inputs on such a grid every sum of products is exact in float32 (it needs fewer than 24 bits), whatever its
    order: a row has the same bits at every place of a batch, on every processor.
    """
    for parameter in module.parameters():
        parameter.data = (parameter.data / step).round() * step
    return module


class RoundsByIndex(nn.Linear):
    """A layer that rounds as some kernels do: rows at odd indices of a batch are one bit higher than the exact sums."""

    def forward(self, x: Tensor) -> Tensor:
        rows = super().forward(x)
        is_odd = torch.arange(len(rows), device=rows.device)[:, None] % 2 == 1
        return torch.where(is_odd, rows.nextafter(torch.full_like(rows, torch.inf)), rows)


class TwoParts(nn.Module):
    """A trunk with BatchNorm, and a head with BatchNorm and dropout; 3 classes. The trunk's sums are exact."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(on_grid(nn.Linear(4, 8)), nn.BatchNorm1d(8), nn.ReLU())
            self.head = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def objective_of(loss=None, *, task=None) -> Objective:
    """The objective of a loss, for classes where no task is passed."""
    known = loss is None or isinstance(loss, str) or known_loss(loss) is not None
    request = Request(task or (("regression" if loss in NUMBERS else "classification") if known else None), loss)
    return request.objective(torch.zeros(2, 3), torch.tensor([0, 1]))


def frozen_model() -> TwoParts:
    """A `TwoParts` with its trunk frozen."""
    model = TwoParts()
    freeze(model, "trunk")
    return model


def three_classes(count: int = 90, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points around three centres, (count, 4) float32, multiples of 1/64, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = 2 * torch.eye(3, 4)
    points = centres[labels] + 0.5 * torch.randn(count, 4, generator=generator)
    return (64 * points).round() / 64, labels


def head_of(model: TwoParts) -> Head:
    """The head of a frozen model, split on two examples of each class."""
    return split(model, three_classes(6)[0])[1]


def features_of(head: Head, inputs: Tensor, labels: Tensor, *, batch_size: int) -> Features:
    """The head's features of all examples, computed in batches of `batch_size`."""
    return cache_features(head.trunk, (inputs, labels), batch_size=batch_size)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether all are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
