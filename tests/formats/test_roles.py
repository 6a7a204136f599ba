"""Roles need evidence: names alone never make a weight vanish."""

import pytest
import torch
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.formats.roles import EMA_ROOTS, roles_of, with_roles
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint

SCALARS = ("iteration", "iter", "step", "learning_rate", "beta1_power", "decay", "num_updates", "epoch", "count")


def arrays(*names):
    """Float arrays of these names; int64 scalars where the last word is a counter's."""
    return {
        name: ArrayInfo((), "int64")
        if name.replace("/", ".").rsplit(".", 1)[-1] in SCALARS
        else ArrayInfo((2,), "float32")
        for name in names
    }


SLOT, EMA, COUNTER = "optimizer_slot", "ema", "counter"


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (("a/w", "a/w/Adam", "a/w/Adam_1"), {"a/w/Adam": SLOT, "a/w/Adam_1": SLOT}),
        (("w/part_0", "w/Adam/part_0"), {"w/Adam/part_0": SLOT}),
        (("w", "w/.OPTIMIZER_SLOT/optimizer/m"), {"w/.OPTIMIZER_SLOT/optimizer/m": SLOT}),
        (("w", "beta1_power"), {"beta1_power": SLOT}),
        (("net/w", "adam/net_w_momentum", "adam/iteration"), {"adam/net_w_momentum": SLOT, "adam/iteration": COUNTER}),
        (("w/k", "Adam/m/w/k", "Adam/v/w/k"), {"Adam/m/w/k": SLOT, "Adam/v/w/k": SLOT}),
        (("d/k", "training/Adam/d/k/m"), {"training/Adam/d/k/m": SLOT}),
        (("model.w", "optimizer.state.0.exp_avg"), {"optimizer.state.0.exp_avg": SLOT}),
        (("state_dict.w", "optimizer_states.0.state.0.exp_avg"), {"optimizer_states.0.state.0.exp_avg": SLOT}),
        (
            ("params/w", "opt_state/0/mu/w", "opt_state/0/count"),
            {"opt_state/0/mu/w": SLOT, "opt_state/0/count": COUNTER},
        ),
        (("a/w", "a/w/ExponentialMovingAverage"), {"a/w/ExponentialMovingAverage": EMA}),
        (("a/w", "a/w/a/w/ExponentialMovingAverage"), {"a/w/a/w/ExponentialMovingAverage": EMA}),
        (("state_dict.a.w", "state_dict_ema.a.w"), {"state_dict_ema.a.w": EMA}),
        (("a.w", "ema.a.w"), {"ema.a.w": EMA}),
        (
            ("model.a.b_w", "model_ema.abw", "model_ema.num_updates"),
            {"model_ema.abw": EMA, "model_ema.num_updates": EMA},
        ),
        (("w", "global_step", "save_counter"), {"global_step": COUNTER, "save_counter": COUNTER}),
    ],
)
def test_slots_copies_and_counters_beside_their_weights_are_told(names, roles):
    """As each framework names them."""
    assert roles_of(arrays(*names)) == roles


@pytest.mark.parametrize(
    "names",
    [
        ("fc.weight", "opt.weight", "opt.bias"),
        ("encoder.conv.weight", "opt.conv.weight"),
        ("optimizer.policy.weight", "head.weight"),
        ("adam/dense/kernel", "dense_1/kernel"),
        ("block.ema.conv.weight", "block.conv.weight"),
        ("ema.conv.weight", "ema.conv.bias", "head.weight"),
        ("ema.weight", "fc.weight"),
        ("momentum/encoder/kernel", "online/encoder/kernel"),
        ("bn/moving_mean", "bn/moving_variance"),
        ("stem.running_mean", "stem.num_batches_tracked"),
    ],
)
def test_layers_with_an_optimisers_name_stay_weights(names):
    """A network may well have a layer called opt, ema or adam."""
    assert roles_of(arrays(*names)) == {}


def test_a_slot_whose_weight_is_not_there_is_a_weight():
    """The only copy of a network, saved as its moving average, is not set aside."""
    assert roles_of(arrays("a/w/ExponentialMovingAverage", "b/Adam")) == {}


def test_a_vector_called_step_is_a_weight():
    """Quantised networks learn step sizes."""
    assert roles_of({"layer.step": ArrayInfo((8,), "float32"), "layer2.step": ArrayInfo((), "float32")}) == {}


def test_roles_are_put_into_the_arrays():
    """The others stay the same objects."""
    infos = arrays("w", "w/Momentum")

    given = with_roles(infos)

    assert [info.role for info in given.values()] == ["weight", "optimizer_slot"]
    assert given["w"] is infos["w"]


@pytest.mark.parametrize("raw", ["state_dict", "model", "params", "network"])
@pytest.mark.parametrize("root", EMA_ROOTS)
def test_the_averages_under_every_root_fill_the_model_when_they_are_asked_for(tmp_path, root, raw):
    """timm writes state_dict_ema, others other words: one list serves the reader and the plan."""
    weights, averages = (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)) for _ in range(2))
    torch.save({raw: weights.state_dict(), root: averages.state_dict()}, tmp_path / "m.pt")
    checkpoint = open_checkpoint(tmp_path / "m.pt")

    for ema, source in ((True, averages), (False, weights)):
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
        apply_plan(plan_reuse(checkpoint, model, ema=ema), checkpoint, model)
        assert all(map(torch.equal, model.state_dict().values(), source.state_dict().values()))
