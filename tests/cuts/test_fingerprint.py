"""What a module computes, told by its settings and its methods."""

import torch
from torch import nn

from regraft.cuts.fingerprint import class_name, settings_of, source_hash


class Scaled(nn.Module):
    """A number, a tuple, a tensor, a private note and the size of the head."""

    def __init__(self):
        super().__init__()
        self.scale, self.window, self.table = 2.0, (3, 4), torch.ones(2)
        self._note, self.num_classes, self.act = "x", 7, nn.ReLU()

    def forward(self, x):
        return self.inner(x) * self.scale

    def inner(self, x):
        return x + 1


class Renamed(Scaled):
    """Another helper under the same forward."""

    def inner(self, x):
        return x + 2


class Stateful(nn.Module):
    """State beside parameters and buffers."""

    def __init__(self, value):
        super().__init__()
        self.held = {"levels": [torch.tensor(value), 3]}

    def get_extra_state(self):
        return self.held


def test_settings_are_the_plain_public_attributes():
    """Tensors and layers are told elsewhere; the head's size is not the trunk's."""
    assert settings_of(Scaled()) == {"scale": "2.0", "window": "(3, 4)"}


def test_extra_state_is_told_by_its_values():
    """Tensors inside it too."""
    assert settings_of(Stateful(1.0)) == settings_of(Stateful(1.0))
    assert settings_of(Stateful(1.0)) != settings_of(Stateful(1.5))


def test_any_method_counts_not_only_forward():
    """A forward often only calls another method."""
    assert source_hash(Scaled) != source_hash(Renamed)
    assert source_hash(Scaled) == source_hash(Scaled)


def test_a_class_without_a_source_is_told_by_its_code():
    """As typed into an interpreter."""
    made = []
    for added in (1, 2):
        names = {"nn": nn}
        exec(f"class Typed(nn.Module):\n    def forward(self, x):\n        return x + {added}", names)
        made.append(names["Typed"])
    assert source_hash(made[0]) != source_hash(made[1])


def test_a_class_is_named_with_its_module():
    """Two classes of the same name stay apart."""
    assert class_name(nn.Linear) == "torch.nn.modules.linear.Linear"
