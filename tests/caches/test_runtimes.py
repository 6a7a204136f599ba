"""Which runtime computes the features."""

import pytest
import torch
from tests.caches.test_fast_trunk import convolutions
from torch import nn

import regraft
from regraft.caches import fast_trunk, runtimes
from regraft.caches.options import Engine
from regraft.errors import CacheError

IMAGES, LABELS = torch.randn(40, 3, 8, 8), torch.arange(40) % 2


@pytest.fixture(autouse=True)
def long_pass(monkeypatch):
    """As if the pass took long and each runtime gained as its name says; nothing is timed."""
    monkeypatch.setattr(runtimes, "SHORT_S", 0.0)
    monkeypatch.setattr(runtimes, "gain_of", lambda fast, _: {"torchscript": 1.5, "openvino": 2.0}[fast.runtime])


def features_of(model, store=None, **settings):
    """Its features of the images, in batches of 16."""
    trunk, _ = regraft.split(model, IMAGES[:2])
    return regraft.cache_features(trunk, (IMAGES, LABELS), store, batch_size=16, **settings)


def values(features):
    """The rows of its only leaf."""
    (name,) = (leaf.name for leaf in features.cut.leaves)
    return features.gather(torch.arange(len(features)))[0][name]


def test_the_fastest_runtime_computes_the_features():
    """It says which, by how much faster, and how far the features are from the exact ones."""
    lines = []
    fast, exact = features_of(convolutions(), engine="fast", tell=lines.append), features_of(convolutions())
    chosen = fast.built.runtime
    assert (chosen.name, chosen.gain) == ("openvino", 2.0)
    assert lines[0] == chosen.note
    assert chosen.note == (
        "The features are computed by openvino, 2.0 times as fast as by the model's own forward. "
        f"They differ by up to {chosen.difference:.1g} of the largest value of a row."
    )
    apart = (values(fast) - values(exact)).abs().max()
    assert 0 < apart <= fast_trunk.TOLERANCE * values(exact).abs().max()
    assert exact.built.runtime == runtimes.EXACT


def test_the_key_knows_the_runtime_and_the_store_keeps_it(tmp_path, monkeypatch):
    """Exact and fast features have entries of their own; a stored runtime is taken again, whatever is fastest now."""
    fast = features_of(convolutions(), tmp_path, engine="fast")
    assert features_of(convolutions(), tmp_path).computed == 40  # exact: another entry
    monkeypatch.setattr(runtimes, "gain_of", lambda fast, _: {"torchscript": 3.0, "openvino": 2.0}[fast.runtime])
    again = features_of(convolutions(), tmp_path, engine="fast")
    assert (again.computed, again.built.runtime.name) == (0, "openvino")
    assert again.built.runtime.note == "The features are computed by openvino, as those in the store."
    assert torch.equal(values(fast), values(again))


def test_a_slower_runtime_is_never_taken(monkeypatch):
    """Each is named with its gain."""
    monkeypatch.setattr(runtimes, "gain_of", lambda *_: 1.05)
    chosen = features_of(convolutions(), engine="fast").built.runtime
    assert chosen.note == (
        "The features are computed by the model's own forward: openvino computes a batch 1.05 times as fast; "
        "torchscript computes a batch 1.05 times as fast."
    )


def test_a_short_pass_is_not_compiled(monkeypatch):
    """Compiling takes longer."""
    monkeypatch.setattr(runtimes, "SHORT_S", 1e9)
    note = features_of(convolutions(), engine="fast").built.runtime.note
    assert note.startswith("The features are computed by the model's own forward: it takes about ")
    assert note.endswith(", less than compiling.")


def test_a_runtime_that_fails_is_passed_over(monkeypatch):
    """The next one computes the features."""

    def fail(*_):
        raise RuntimeError("not here")

    monkeypatch.setitem(fast_trunk.RUNTIMES, "openvino", fail)
    assert features_of(convolutions(), engine="fast").built.runtime.name == "torchscript"


def test_a_path_that_depends_on_values_is_not_compiled():
    """A trace would keep the path of one batch."""

    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            hidden = self.first(x)
            return self.head(hidden if hidden.abs().max() < 100 else hidden / 2)

    model = Branch()
    regraft.freeze(model, "first")
    trunk, _ = regraft.split(model, torch.randn(2, 4), at="first")
    data = torch.randn(20, 4), torch.zeros(20)
    built = regraft.cache_features(trunk, data, batch_size=4, engine="fast").built
    assert built.runtime.note == (
        "The features are computed by the model's own forward: the path through the model depends on values of its "
        "tensors."
    )


def test_deeper_features_are_exact():
    """They are computed from features, not from inputs."""
    model = convolutions()
    regraft.unfreeze(model, "[34]")
    trunk, head = regraft.split(model, IMAGES[:2])
    features = regraft.cache_features(trunk, (IMAGES, LABELS), batch_size=16, engine="fast")
    regraft.freeze(model, trainable="7")
    part, _ = head.recut()
    deeper = features.deeper(part)
    assert "carries features on from a shallower cut" in deeper.built.runtime.note


def test_the_exact_engine_says_what_the_fast_one_would_take(monkeypatch):
    """Where the pass takes long and the gain is worth it."""
    monkeypatch.setattr(runtimes, "LONG_S", 0.0)
    lines = []
    features_of(convolutions(), tell=lines.append)
    assert any(line.startswith("The fast engine (openvino) would run the trunk in about ") for line in lines)
    monkeypatch.setattr(runtimes, "WORTH_TELLING", 2.1)
    lines.clear()
    features_of(convolutions(), tell=lines.append)
    assert not any("fast engine" in line for line in lines)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("quick", r"No engine 'quick'\. Choose one of exact, fast\."),
        (Engine("bfloat16", runtime="fast"), r"The fast engine computes in float32, and compute is 'bfloat16'"),
    ],
)
def test_wrong_engines_are_refused(engine, message):
    """Before anything is computed."""
    with pytest.raises(CacheError, match=message):
        features_of(convolutions(), engine=engine)
