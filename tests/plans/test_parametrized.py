"""weight_norm, spectral_norm and pruning: old, new and plain forms fill each other, and give what torch computes."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from in_memory import arrays_of, checkpoint_of
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plans.parametrized import tensor_of

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")


def pruned(layer):
    return prune.random_unstructured(layer, "weight", amount=0.5)


def trained_spectral(norm):
    """In evaluation u and v are as training left them; one step makes them differ from where they began."""

    def make(layer):
        layer = norm(layer)
        inputs = layer.in_channels if isinstance(layer, nn.modules.conv._ConvNd) else layer.in_features
        layer(torch.randn(2, inputs, 9) if isinstance(layer, nn.modules.conv._ConvNd) else torch.randn(2, inputs))
        return layer

    return make


NORMS = {
    "plain": lambda layer: layer,
    "old weight_norm": old_weight_norm,
    "new weight_norm": parametrizations.weight_norm,
    "old spectral_norm": trained_spectral(old_spectral_norm),
    "new spectral_norm": trained_spectral(parametrizations.spectral_norm),
    "pruned": pruned,
    "orthogonal": parametrizations.orthogonal,
}
LAYERS = {
    "conv": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "transposed": (lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 9)),
    "dense": (lambda: nn.Linear(4, 6), (2, 4)),
    "square": (lambda: nn.Linear(6, 6), (2, 6)),
    "one input": (lambda: nn.Conv1d(1, 6, 3), (2, 1, 9)),
}
WEIGHT_NORMS = [name for name in NORMS if "weight_norm" in name]
CHANGES = [
    *((theirs, ours) for theirs in [*WEIGHT_NORMS, "plain"] for ours in [*WEIGHT_NORMS, "plain"]),
    *((theirs, "plain") for theirs in NORMS if theirs != "orthogonal"),
    ("old spectral_norm", "new spectral_norm"), ("new spectral_norm", "old spectral_norm"), ("plain", "pruned"),
]  # fmt: skip


def net(layer, norm):
    return nn.Sequential(NORMS[norm](LAYERS[layer][0]())).eval()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("theirs", "ours"), dict.fromkeys(CHANGES))
@pytest.mark.parametrize("match", ["names", "structure"])
def test_each_form_fills_the_other(layer, theirs, ours, match):
    source, model = net(layer, theirs), net(layer, ours)
    checkpoint = checkpoint_of(arrays_of(source), layout="torch")
    x = torch.randn(LAYERS[layer][1])

    plan = plan_reuse(checkpoint, model, match=match)
    plan.check()
    apply_plan(plan, checkpoint, model)

    assert torch.allclose(model(x), source(x), atol=1e-5)  # float32: the norm is computed in another order


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_form_is_filled_bit_by_bit(norm):
    source, model = net("dense", norm), net("dense", norm)
    checkpoint = checkpoint_of(arrays_of(source), layout="torch")

    apply_plan(plan_reuse(checkpoint, model), checkpoint, model)

    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_a_recurrent_layer_may_have_a_normalised_weight():
    def make():
        return nn.Sequential(parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"))

    checkpoint = checkpoint_of(arrays_of(make()), layout="torch")

    assert not plan_reuse(checkpoint, make()).problems
    assert plan_reuse(checkpoint, make(), match="structure").problems  # and no crash: its kind has no known shape


@pytest.mark.parametrize("layout", [None, "torch", "tensorflow", "onnx"])
def test_other_files_are_planned_as_well(layout):
    """A problem for each array, and no crash: the layer has no array called weight."""
    checkpoint = checkpoint_of(arrays_of(net("dense", "plain")), layout=layout)

    plan = plan_reuse(checkpoint, net("dense", "new weight_norm"))

    assert [row.target for row in plan.rows if row.target] == list(net("dense", "new weight_norm").state_dict())


@pytest.mark.parametrize(("theirs", "ours"), [("orthogonal", "plain"), ("plain", "old spectral_norm")])
def test_what_cannot_be_computed_is_a_problem(theirs, ours):
    assert plan_reuse(checkpoint_of(arrays_of(net("dense", theirs)), layout="torch"), net("dense", ours)).problems


def test_a_kernel_without_its_norm_cannot_be_accepted():
    """v alone, renamed to the weight, is another kernel: whatever the user accepts."""
    checkpoint = checkpoint_of(arrays_of(net("dense", "old weight_norm")), layout="torch")
    rename = {r"(.*)\.weight_v": r"\1.weight"}

    plan = plan_reuse(checkpoint, net("dense", "plain"), rename=rename, accept=".*weight_g")

    assert [row.name for row in plan.problems] == ["0.weight_g"]


def test_the_tensor_of_an_array():
    leaves = ["weight_g", "weight_hh_l0_v", "parametrizations.weight.0._u", "weight_mask", "running_mean"]

    assert [tensor_of(leaf) for leaf in leaves] == ["weight", "weight_hh_l0", "weight", "weight", "running_mean"]
