"""A model is told as plain data: kinds, shapes, ties."""

import pytest
import torch
from torch import nn

from regraft.errors import PlanError
from regraft.plans.describing import _is_plain, describe_model, kind_of, state_tensors
from regraft.tf_layers import ResetBeforeGRU


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(4, 8, 3, groups=4), "depthwise"),
        (nn.Conv2d(4, 8, 3, groups=2), "conv"),
        (nn.Conv1d(1, 8, 3), "conv"),
        (nn.ConvTranspose2d(2, 2, 2), "conv_transpose"),
        (nn.RMSNorm(3), "norm"),
        (ResetBeforeGRU(2, 3), "gru"),
        (nn.ReLU(), "other"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_kinds(module, kind):
    assert kind_of(module) == kind


def test_a_block_that_only_holds_a_norm_is_no_norm():
    class ConvNorm(nn.Sequential):
        pass

    assert kind_of(ConvNorm(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))) == "other"


def test_the_names_are_those_of_the_state_dict():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.MultiheadAttention(4, 2))
    described = {
        layer.full(leaf): array.shape for layer in describe_model(model) for leaf, array in layer.arrays.items()
    }

    assert described == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert state_tensors(model).keys() == described.keys()


def test_a_tied_tensor_knows_its_first_name():
    model = nn.ModuleDict({"table": nn.Embedding(5, 3), "out": nn.Linear(3, 5, bias=False)})
    model["out"].weight = model["table"].weight

    assert describe_model(model)[1].arrays["weight"].tied_to == "table.weight"


def test_an_array_without_a_shape_is_refused():
    with pytest.raises(PlanError, match="no shape yet"):
        describe_model(nn.ModuleDict({"layer": nn.LazyLinear(3)}))


def test_an_array_without_memory_is_described():
    """Only its shape and dtype are needed to plan."""
    (layer,) = describe_model(nn.ModuleDict({"layer": nn.Linear(2, 3, device=torch.device("meta"))}))
    assert layer.arrays["weight"].shape == (3, 2)


def test_an_own_forward_stays_an_own_one_in_a_package_of_a_like_name():
    """A job's factory file is called regraft_factory_NAME."""
    own = type("Own", (nn.Conv2d,), {"forward": lambda self, x: 2 * nn.Conv2d.forward(self, x)})
    own.forward.__module__ = "regraft_factory_net"
    assert not _is_plain(own(2, 3, 1))
    assert _is_plain(nn.Conv2d(2, 3, 1))
