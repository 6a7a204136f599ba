"""Frozen layers stay frozen."""

import copy
import pickle

import pytest
import torch
from torch import nn

from regraft.errors import FreezeError, PatternError
from regraft.freezing import freeze, frozen_names, is_frozen, parameter_groups, unfreeze


class Net(nn.Module):
    """A normalised stack with dropout: 6 inputs, 3 outputs."""

    def __init__(self):
        super().__init__()
        self.hidden1 = nn.Linear(6, 8)
        self.norm1 = nn.BatchNorm1d(8)
        self.drop1 = nn.Dropout(0.5)
        self.hidden2 = nn.Linear(8, 8)
        self.drop2 = nn.Dropout(0.5)
        self.outputs = nn.Linear(8, 3)

    def forward(self, x):
        x = self.drop1(self.norm1(self.hidden1(x)).relu())
        return self.outputs(self.drop2(self.hidden2(x).relu()))


def test_frozen_statistics_do_not_move():
    """BatchNorm of the frozen part stays bit-identical, even in train mode."""
    model = Net()
    freeze(model, "norm1")
    before = model.norm1.running_mean.clone()

    model.train()
    model(torch.randn(4, 6))

    assert torch.equal(before, model.norm1.running_mean)
    assert model.norm1.num_batches_tracked == 0


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_stays_frozen_and_belongs_to_itself(duplicate):
    """The copy's own modules are marked: training the copy's mode leaves the original alone."""
    model = Net()
    freeze(model, "norm1")

    twin = duplicate(model)
    twin.train()

    assert is_frozen(twin.norm1)
    assert not twin.norm1.training
    assert type(twin.norm1) is nn.BatchNorm1d
    assert twin.norm1.__dict__["train"].args[0] is twin.norm1


def test_an_optimizer_over_all_parameters_leaves_the_frozen_ones_alone():
    """With momentum, weight decay and gradients from before the freezing."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(torch.randn(4, 6)).sum().backward()
    optimizer.step()
    model(torch.randn(4, 6)).sum().backward()
    freeze(model, trainable="outputs")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    for _ in range(2):
        model.train()
        model(torch.randn(4, 6)).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    changed = {name.partition(".")[0] for name, tensor in model.state_dict().items() if not before[name].equal(tensor)}
    assert changed == {"outputs"}


def test_trainable_leaves_the_dropout_after_it_alone():
    """Layers without parameters that come after the first trainable layer keep working."""
    model = Net()

    frozen = freeze(model, trainable="hidden2|outputs")

    assert frozen == ["hidden1", "norm1", "drop1"]
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "hidden2.weight",
        "hidden2.bias",
        "outputs.weight",
        "outputs.bias",
    ]


def test_upto_takes_everything_before_the_layer_too():
    """The order is that of registration."""
    assert freeze(Net(), upto="drop1") == ["hidden1", "norm1", "drop1"]


def test_a_layer_whose_parameters_are_all_frozen_is_frozen():
    """Choosing by parameter names stops the statistics as well."""
    assert freeze(Net(), r"norm1\.(weight|bias)") == ["norm1"]


def test_unfreezing_trains_again():
    """Gradients and mode come back for the chosen layers, and for them alone."""
    model = Net()
    freeze(model, ".*")

    left = unfreeze(model, "hidden2|drop2|outputs")
    model.train()

    assert left == ["hidden1", "norm1", "drop1"]
    assert model.drop2.training
    assert model.hidden2.weight.requires_grad
    assert not model.hidden1.weight.requires_grad


@pytest.mark.parametrize(("upto", "told"), [("hidden9", "Did you mean 'hidden2'"), ("", "takes the name of a layer")])
def test_a_wrong_layer_name_is_answered_with_the_right_ones(upto, told):
    """The message lists the layers, the nearest one first."""
    with pytest.raises(PatternError, match=told):
        freeze(Net(), upto=upto)


def test_normalisation_by_the_batch_cannot_be_frozen():
    """Nothing is changed when one layer is refused."""
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))

    with pytest.raises(FreezeError, match="1: BatchNorm without running statistics"):
        freeze(model, ".*")

    assert frozen_names(model) == []
    assert model[0].weight.requires_grad


def test_a_lazy_layer_without_values_cannot_be_frozen():
    """Nothing is changed; after a first forward it can."""
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(FreezeError, match=r"0\.weight, 0\.bias: no values yet"):
        freeze(model, ".*")
    assert model[1].weight.requires_grad
    model(torch.zeros(2, 4))
    assert freeze(model, "0") == ["0"]


def test_exactly_one_way_of_choosing():
    """Two ways at once would leave open which wins."""
    with pytest.raises(FreezeError, match="exactly one of"):
        freeze(Net(), "hidden1", upto="hidden2")


def test_parameter_groups_give_the_first_match_and_leave_the_rest_to_the_defaults():
    """Each trainable parameter is in one group."""
    model = Net()
    freeze(model, "hidden1")

    groups = parameter_groups(model, {"norm1": {"lr": 1e-5}, ".*bias": {"weight_decay": 0.0}})

    assert groups[0]["lr"] == 1e-5
    assert [len(group["params"]) for group in groups] == [2, 2, 2]
    torch.optim.AdamW(groups, lr=1e-3)


def test_a_group_of_frozen_parameters_is_refused():
    """A learning rate for what does not learn is a mistake."""
    model = Net()
    freeze(model, "hidden1")
    with pytest.raises(FreezeError, match="All parameters that the pattern 'hidden1' matches are frozen"):
        parameter_groups(model, {"hidden1": {"lr": 1.0}})
