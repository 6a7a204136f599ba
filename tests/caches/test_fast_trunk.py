"""The compiled trunk against the exact one."""

import pytest
import torch
from torch import nn

import regraft
from regraft.caches.fast_trunk import RUNTIMES, TOLERANCE, FastTrunk, gain_of, installed_runtimes, largest_difference
from regraft.errors import CacheError, SplitError


def convolutions(**settings):
    """Two frozen convolutions with their norms, in evaluation as a pretrained model is, and a head."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1, **settings), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 3, 2)).eval()
    for norm in (model[1], model[4]):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
    regraft.freeze(model, trainable="7")
    return model


def split_convolutions():
    """A trunk and a batch of 8 images of it."""
    images = torch.randn(8, 3, 8, 8)
    return regraft.split(convolutions(), images[:2])[0], images


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_compiled_features_are_those_of_the_exact_trunk(runtime):
    """Within the stated tolerance, leaf by leaf, in the same order, shape and type."""
    trunk, images = split_convolutions()
    fast = FastTrunk(trunk, runtime, 8)
    assert fast.compile(images) <= TOLERANCE
    exact, compiled = trunk(images), fast(images)
    assert list(exact) == list(compiled) == [leaf.name for leaf in trunk.cut.leaves]
    assert 0 < largest_difference(exact, compiled) <= TOLERANCE  # other bits: the copy ran
    assert fast.check(images.flip(0)) <= TOLERANCE


def test_another_batch_is_computed_by_the_exact_trunk():
    """A canary's few rows, the last rows of a data set."""
    trunk, images = split_convolutions()
    fast = FastTrunk(trunk, "torchscript", 8)
    fast.compile(images)
    assert all(torch.equal(rows, fast(images[:5])[name]) for name, rows in trunk(images[:5]).items())


def test_inputs_by_name_and_several_leaves():
    """A dictionary of inputs reaches the model by its names, and each leaf is one of the copy's outputs."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.head = nn.Linear(4, 3), nn.Linear(5, 3), nn.Linear(3, 2)

        def forward(self, a, b):
            return self.head(self.left(a) * self.right(b).relu())

    model = Sum()
    regraft.freeze(model, trainable="head")
    inputs = {"b": torch.randn(6, 5), "a": torch.randn(6, 4)}
    trunk, _ = regraft.split(model, **{name: rows[:2] for name, rows in inputs.items()}, at=["left", "right"])
    fast = FastTrunk(trunk, "torchscript", 6)
    assert fast.compile(inputs) <= TOLERANCE
    assert largest_difference(trunk(**inputs), fast(**inputs)) <= TOLERANCE


def test_it_compiles_when_the_first_whole_batch_comes():
    """A store that lacks nothing needs no compiled trunk."""
    trunk, images = split_convolutions()
    fast = FastTrunk(trunk, "torchscript", 8)
    assert largest_difference(trunk(images), fast(images)) > 0


def test_other_features_are_refused(monkeypatch):
    """A runtime that rounds to a lower precision, say."""
    monkeypatch.setitem(RUNTIMES, "torchscript", lambda traced, _: lambda x: tuple(f.half().float() for f in traced(x)))
    trunk, images = split_convolutions()
    with pytest.raises(CacheError, match=r"torchscript computes other features: they differ by \S+ of the largest"):
        FastTrunk(trunk, "torchscript", 8).compile(images)


def test_a_trunk_that_a_runtime_cannot_compile_is_refused(monkeypatch):
    """With the way out."""

    def fail(traced, inputs):
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setitem(RUNTIMES, "torchscript", fail)
    trunk, images = split_convolutions()
    with pytest.raises(
        CacheError, match=r"torchscript cannot compile this trunk \(RuntimeError: no such operator\)"
    ) as caught:
        FastTrunk(trunk, "torchscript", 8).compile(images)
    assert 'Pass engine="exact" to run the model\'s own forward.' in str(caught.value)


def test_settings_that_changed_are_refused():
    """As by the exact trunk: the compiled copy has the old ones."""
    trunk, images = split_convolutions()
    fast = FastTrunk(trunk, "torchscript", 8)
    fast.compile(images)
    trunk.model[1].eps = 0.1
    with pytest.raises(SplitError, match="Settings of frozen layers have changed since the split"):
        fast(images)


def test_differences_are_relative_to_the_row():
    """A large row hides nothing in a small one; gaps and whole numbers have to be the same."""
    exact = torch.tensor([[1000.0, 0.0], [1.0, 0.5]])
    fast = exact.clone()
    fast[1, 1] += 1e-3
    assert largest_difference({"x": exact}, {"x": fast}) == pytest.approx(1e-3, rel=1e-3)
    exact[0, 0] = fast[0, 0] = torch.nan
    assert largest_difference({"x": exact}, {"x": fast}) == float("inf")
    assert largest_difference({"x": torch.tensor([[1]])}, {"x": torch.tensor([[2]])}) == float("inf")
    assert largest_difference({"x": torch.zeros(2, 3)}, {"x": torch.zeros(2, 3)}) == 0


def test_the_gain_is_a_ratio_of_times():
    """Of the same batch."""
    trunk, images = split_convolutions()
    fast = FastTrunk(trunk, "torchscript", 8)
    fast.compile(images)
    assert gain_of(fast, images) > 0


def test_runtimes_of_a_device():
    """OpenVINO runs on the CPU only."""
    assert installed_runtimes(torch.device("cpu")) == ["openvino", "torchscript"]
    assert installed_runtimes(torch.device("cuda")) == ["torchscript"]
