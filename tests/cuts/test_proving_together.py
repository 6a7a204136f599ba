"""Both modes are proven by shared runs; what is wrong in one mode, for some rows or in gradients alone is seen."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from regraft.cuts.batches import batch_of
from regraft.cuts.head_run import HeadRun
from regraft.cuts.proving_together import proven_together
from regraft.cuts.search import Search, record_example
from regraft.splitting import split
from splits import Branch, example, frozen


def together(model, x, *, untrained="", untrained_in=()):
    """The shared proof; parameters of the layer `untrained` are recorded as frozen in these modes: a wrong cut."""
    batch, recordings = batch_of((x,), {}), {}
    for mode in (True, False):
        recording = record_example(model, batch, is_training=mode, before=recordings.get(True))
        if mode in untrained_in:
            values = recording.record.values
            spoilt = [replace(v, is_trainable=v.is_trainable and untrained not in v.name) for v in values]
            recording = replace(recording, record=replace(recording.record, values=tuple(spoilt)))
        recordings[mode] = recording
    searches = {
        mode: Search(model, r.record, r.sizes, batch, wanted=None, is_training=mode) for mode, r in recordings.items()
    }
    return proven_together(searches, recordings)


class Between(nn.Module):
    """Something between two frozen layers, in training, in evaluation or in both."""

    def __init__(self, between, modes):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.between, self.modes = between, modes

    def forward(self, x):
        hidden = self.first(x)
        if self.training in self.modes:
            hidden = hidden + self.between(hidden)
        return self.last(self.second(hidden))


MIXES = {
    "mean": lambda rows: 1e-6 * rows.mean(0),
    "smallest": lambda rows: 1e-3 * rows.amin(0),
    "largest": lambda rows: 1e-3 * rows.amax(0),
    "first row": lambda rows: 1e-3 * rows[:1],
    "last row": lambda rows: rows[-1:],
    "row before": lambda rows: 1e-3 * rows.roll(1, 0),
    "index": lambda rows: torch.arange(1.0, len(rows) + 1)[:, None],
    "number of rows": lambda rows: rows / len(rows),
}


@pytest.mark.parametrize("modes", [(True,), (False,), (True, False)], ids=["training", "evaluation", "both"])
@pytest.mark.parametrize("between", MIXES.values(), ids=MIXES)
def test_rows_that_depend_on_their_batch_in_a_mode_are_seen(between, modes):
    """In this mode alone as well; the cut then goes before them."""
    model = frozen(Between(between, modes))

    assert together(model, example()) == {}

    trunk, head = split(model, example())
    assert len(modes) == 1 or [leaf.name for leaf in trunk.cut.leaves] == ["first"]
    for mode in (True, False):
        model.train(mode)
        assert torch.equal(head(trunk(3 * example()[:3])), model(3 * example()[:3]))


def test_random_rows_are_seen():
    """A draw between frozen layers."""
    assert together(frozen(Between(torch.rand_like, (False,))), example()) == {}


@pytest.mark.parametrize("modes", [(True,), (False,), (True, False)], ids=["training", "evaluation", "both"])
def test_a_cut_that_takes_a_trainable_layer_into_the_trunk_is_seen(modes):
    """Outputs are equal; the gradients of the layer are missing."""
    assert together(frozen(Branch(), "first"), example(), untrained="second", untrained_in=modes) == {}


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_a_head_without_gradients_in_a_mode_is_seen(monkeypatch, mode):
    """Its outputs are equal: in training the gradients show it, in evaluation the steps of the backward pass."""
    run = HeadRun.run

    def detached(self, *args):
        output = run(self, *args)
        return output.detach() if self.program.is_training == mode else output

    assert together(frozen(Branch()), example()) != {}
    monkeypatch.setattr(HeadRun, "run", detached)
    assert together(frozen(Branch()), example()) == {}


@pytest.mark.parametrize("rows", [4, 5])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_a_head_that_is_wrong_for_one_number_of_rows_is_seen(monkeypatch, mode, rows):
    """The example has four, the larger batch five."""
    run = HeadRun.run

    def spoilt(self, *args):
        output = run(self, *args)
        return output * 2 if self.program.is_training == mode and len(output) == rows else output

    monkeypatch.setattr(HeadRun, "run", spoilt)
    assert together(frozen(Branch()), example()) == {}


def test_both_modes_share_the_runs(monkeypatch):
    """Six forwards of the frozen part and two backward passes: docs/why/splitting.md."""
    rows, passes, grad = [], [], torch.autograd.grad

    class Counted(nn.Conv2d):
        def forward(self, x):
            rows.append(len(x))
            return super().forward(x)

    model = frozen(nn.Sequential(Counted(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 4, 2)), "0")
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: passes.append(1) or grad(*args, **kwargs))
    assert sorted(together(model, torch.randn(4, 3, 4, 4))) == [False, True]
    assert sorted(rows) == [4, 4, 4, 5, 5, 5]
    assert len(passes) == 2


def test_a_recording_that_rounds_in_another_way_is_no_obstacle():
    """Without gradients torch takes another kernel for a recurrent layer: then the model itself runs the example."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.first(x)[0][:, -1])

    assert sorted(together(frozen(Recurrent(), "first"), torch.randn(3, 5, 6))) == [False, True]
