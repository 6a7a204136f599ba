"""What layers compute beside their tensors: settings, methods, and what a forward does beside its layers."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.caches.keys import key_of, manifest_of
from regraft.caches.options import Options
from regraft.cuts.fingerprint import class_name, setting_texts, source_hash
from regraft.cuts.operators import plain_arguments
from regraft.freezing import freeze
from regraft.splitting import split

SCALE, POWER, SLOPE = 2.0, 2, 0.1


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
    assert setting_texts(Scaled()) == {"scale": "2.0", "window": "(3, 4)"}


def test_numbers_count_in_private_attributes_and_in_objects_of_settings():
    """Texts and switches there are notes of training; functions and layers are no settings."""
    layer = Scaled()
    layer._bound, layer._is_ready, layer.config = 3, True, SimpleNamespace(bound=2, num_labels=5, path="x", fast=True)
    assert setting_texts(layer) == {"_bound": "3", "config": {"bound": "2"}, "scale": "2.0", "window": "(3, 4)"}


def test_extra_state_is_told_by_its_values():
    """Tensors inside it too."""
    assert setting_texts(Stateful(1.0)) == setting_texts(Stateful(1.0))
    assert setting_texts(Stateful(1.0)) != setting_texts(Stateful(1.5))


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


def scaled(x):
    """A function outside the model, with a number of its module's."""
    return x * SCALE


class Outside(nn.Module):
    """Two frozen layers among which a forward does what no layer tells."""

    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.table, self.act, self.layers = torch.ones(6), lambda x: x * factor, ["a", "b"]

    def forward(self, x):
        for name in self.layers:
            x = getattr(self, name)(x)
        x = self.act(scaled(x) * self.table) ** POWER
        return self.head(functional.leaky_relu(x, SLOPE))


def key(model, rows=3):
    """Of the model's features."""
    freeze(model, "a|b")
    trunk, _ = split(model, torch.randn(rows, 6))
    return key_of(manifest_of(trunk, Options(batch_size=4)))


def hooked(change):
    """A model whose first layer is called in another way."""
    model = Outside()
    change(model)
    return model


@pytest.mark.parametrize("name", ["SCALE", "POWER", "SLOPE"])
def test_a_number_outside_the_model_is_part_of_the_key(monkeypatch, name):
    """Read by a function, by the forward, given to a function of torch."""
    before = key(Outside())
    monkeypatch.setitem(globals(), name, globals()[name] + 1)
    assert key(Outside()) != before


@pytest.mark.parametrize(
    "other",
    [
        lambda: Outside(1.1),
        lambda: hooked(lambda model: setattr(model, "table", model.table * 1.00001)),
        lambda: hooked(lambda model: model.layers.reverse()),
        lambda: hooked(lambda model: model.a.register_forward_hook(lambda layer, args, output: output * 1.00001)),
        lambda: hooked(lambda model: model.a.register_forward_pre_hook(lambda layer, args: args[0] + 1e-7)),
        lambda: hooked(lambda model: setattr(model.a, "forward", lambda x: functional.linear(x, model.a.weight) + 0.5)),
    ],
    ids=["closure", "plain tensor", "order of layers", "hook", "hook before", "replaced forward"],
)  # fmt: skip
def test_what_a_forward_does_beside_its_layers_is_part_of_the_key(other):
    """With the same classes, weights and settings."""
    assert key(other()) != key(Outside())


def test_a_tensor_edited_after_the_split_is_seen():
    """It is looked at when the key is made."""
    model = Outside()
    freeze(model, "a|b")
    trunk, _ = split(model, torch.randn(3, 6))
    before = manifest_of(trunk, Options(batch_size=4))
    model.table[2] = 1.5
    assert manifest_of(trunk, Options(batch_size=4)) != before


def test_the_examples_size_and_the_head_are_not_part_of_the_key():
    """Nor is the process: there is no address in it."""
    before = key(Outside())
    assert key(Outside(), rows=5) == before
    assert key(hooked(lambda model: setattr(model, "head", nn.Linear(6, 5)))) == before


def test_whole_numbers_are_told_apart_from_other_plain_arguments():
    """They may be sizes, which are the example's; those in slices too."""
    assert plain_arguments((torch.ones(2), 3, 0.5), {}) == ("0.5", (3,))
    assert plain_arguments((torch.ones(2), (Ellipsis, slice(None, 7))), {}) == ("", (7,))
    assert plain_arguments((torch.ones(2),), {"keepdim": True, "dtype": torch.float64}) == ("torch.float64 True", ())


class Bounds:
    """An object of settings, as transformers' models have one."""

    bound, low, length, fold = 10, 0, 5, 2


class Bounded(nn.Module):
    """A frozen layer whose rows pass through operators with whole numbers."""

    def __init__(self, operation, bounds):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head, self.operation, self._bounds = nn.Linear(6, 6), nn.Linear(6, 2), operation, bounds

    def forward(self, x):
        return self.head(self.operation(self.a(x), self._bounds))


def branching(x, bounds):
    """Another way where a value is large."""
    return x * 0.5 if x.abs().max() > bounds.bound else x


OPERATIONS = {
    "hardtanh": (lambda x, b: functional.hardtanh(x, -b.bound, b.bound), "bound"),
    "threshold": (lambda x, b: functional.threshold(x, b.low, b.bound), "low"),
    "nan_to_num": (lambda x, b: torch.nan_to_num(x, nan=b.low), "low"),
    "a branch": (branching, "bound"),
    "a branch by a number": (lambda x, b: x * 0.5 if float(x.abs().max()) > b.bound else x, "bound"),
    "roll": (lambda x, b: x.roll(b.fold, 1), "fold"),
    "a slice": (lambda x, b: functional.pad(x[:, : b.length], (0, 6 - b.length)), "length"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_whole_number_inside_an_operator_is_part_of_the_key(name):
    """Bounds, shifts, lengths, and numbers by which the forward decides."""
    operation, setting = OPERATIONS[name]
    bounds = Bounds()
    before = key(Bounded(operation, bounds))
    setattr(bounds, setting, getattr(bounds, setting) + 1)
    assert key(Bounded(operation, bounds)) != before


LIMIT = 10


def limited(x):
    """Decides by a number of its module, where torch does not see it."""
    return x * 0.5 if float(x.detach().abs().max()) > LIMIT else x


class Calling(nn.Module):
    """Calls a function of its module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(limited(self.a(x)))


def test_a_number_by_which_a_function_of_the_module_decides_is_part_of_the_key(monkeypatch):
    """Compared by Python, unseen by torch."""
    before = key(Calling())
    monkeypatch.setitem(globals(), "LIMIT", 11)
    assert key(Calling()) != before


class Reader(nn.Module):
    """Tokens cut to a greatest length, and sizes that grow with the rows and the length."""

    def __init__(self, longest):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head, self.longest = nn.Embedding(9, 6), nn.Linear(6, 2), [longest]

    def forward(self, ids):
        ids = ids[:, : self.longest[0]]
        rows, length = ids.shape
        x = self.a(ids).view(rows, length, 2, 3).transpose(1, 2).reshape(rows, 2, length * 3)
        return self.head(x.view(rows, 2, length, 3).transpose(1, 2).reshape(rows, length, 6).mean(1))


def reader_key(longest, rows=3, length=8):
    """Of tokens of this length."""
    model = Reader(longest)
    freeze(model, "a")
    trunk, _ = split(model, torch.ones(rows, length, dtype=torch.int64))
    return key_of(manifest_of(trunk, Options(batch_size=4)))


def test_a_greatest_length_is_part_of_the_key_and_the_examples_sizes_are_not():
    """The same trunk, whatever example it was split on."""
    assert reader_key(512) != reader_key(256)
    assert reader_key(512) == reader_key(512, rows=5) == reader_key(512, length=11)


limits = SimpleNamespace(BOUND=3.0, UNUSED=1)


class BoundedByName(nn.Module):
    """Reads a number of a namespace, as of a module of limits."""

    def forward(self, x):
        return x.clamp(max=limits.BOUND)


def test_a_number_of_a_namespace_is_part_of_the_source(monkeypatch):
    """`import limits` and `limits.BOUND`: what a forward names of it counts, nothing else."""
    before = source_hash(BoundedByName)

    monkeypatch.setattr(limits, "UNUSED", 2)
    assert source_hash(BoundedByName) == before
    monkeypatch.setattr(limits, "BOUND", 4.0)
    assert source_hash(BoundedByName) != before
