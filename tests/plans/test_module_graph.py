"""A model's wiring is read off its forward: joins in order, layers without weights looked through."""

import torch
from torch import nn

from regraft.plans.graphs import bare
from regraft.plans.module_graph import traced
from regraft.plans.steps import CallStep, ModuleStep


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

    assert {layer: bare(feeding) for layer, feeding in wiring.inputs.items()} == {
        "conv": "",
        "bn": "conv",
        "gamma": "bn",
        "shortcut": "",
        "out": ("cat", ("add", "gamma", "shortcut"), ""),
    }


def test_steps_between_layers_know_where_they_are_done():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
            self.head = Residual()

        def forward(self, x):
            return self.head(nn.functional.max_pool2d(self.stem(x), 2))

    wiring = traced(Pooled())
    (pool, (relu, below)) = wiring.inputs["head.conv"]

    assert (str(pool.function), pool.where) == ("max 2x2, stride 2x2", CallStep("", "max_pool2d"))
    assert relu.where == ModuleStep("stem.1", "activation")
    assert below == "stem.0"
    assert wiring.calls["head.conv"] == CallStep("head", "conv")
    assert wiring.joins[("add", "head.gamma", "head.shortcut")] == CallStep("head", "add")


def test_a_norm_with_an_activation_inside_gives_what_is_behind_it():
    """As timm's BatchNormAct2d."""

    class NormAct(nn.BatchNorm2d):
        def __init__(self):
            super().__init__(1)
            self.act = nn.SiLU()

    wiring = traced(nn.Sequential(NormAct(), nn.Conv2d(1, 1, 1)))

    assert str(wiring.inputs["1"][0].function) == "silu"
    assert wiring.inputs["1"][0].where == ModuleStep("0.act", "activation")


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
