"""A model's wiring is read off its forward: joins in order, layers without weights looked through."""

import torch
from torch import nn

from regraft.plans.module_graph import traced


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.shortcut = nn.Conv2d(4, 4, 1)
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        main = self.bn(self.conv(x)).relu() * self.gamma
        both = torch.cat([main + self.shortcut(x), x], dim=1)
        return self.out(both.mean((2, 3)).reshape(x.shape[0], -1))


def test_joins_and_scales_are_seen_and_all_else_is_looked_through():
    wiring = traced(Residual())

    assert wiring.inputs == {
        "conv": "",
        "bn": "conv",
        "gamma": "bn",
        "shortcut": "",
        "out": ("cat", ("add", "gamma", "shortcut"), ""),
    }


def test_only_what_follows_directly_and_alone_counts_as_following():
    """A bias goes through no activation, and a second consumer would miss it."""

    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Conv2d(1, 1, 1) for _ in range(3))
            self.norm, self.behind_relu, self.shared = (nn.BatchNorm2d(1) for _ in range(3))

        def forward(self, x):
            x = self.behind_relu(self.two(self.norm(self.one(x))).relu())
            y = self.three(x)
            return self.shared(y) + y

    follows = traced(Between()).follows

    assert follows["norm"] == "one"
    assert "behind_relu" not in follows
    assert "shared" not in follows


def test_a_forward_that_depends_on_values_has_no_wiring():
    class Depends(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(x) if x.sum() > 0 else x

    assert traced(Depends()) is None
