"""An adapter is merged into its weight, and a norm into the layer before it: when the user says so, and exactly."""

import numpy as np
import pytest
import torch
from torch import nn

from in_memory import arrays_of, checkpoint_of
from regraft.errors import PlanError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


class Adapted(nn.Module):
    """A layer with a low-rank adapter beside it, named as peft names them."""

    def __init__(self, base, down, up, scale):
        super().__init__()
        self.base_layer, self.scale = base, scale
        self.lora_A, self.lora_B = nn.ModuleDict({"default": down}), nn.ModuleDict({"default": up})

    def forward(self, x):
        return self.base_layer(x) + self.scale * self.lora_B["default"](self.lora_A["default"](x))


def dense(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


LAYERS = {
    "dense": (lambda: nn.Linear(4, 6), lambda: dense(4, 2), lambda: dense(2, 6), (2, 4)),
    "square": (lambda: nn.Linear(4, 4), lambda: dense(4, 2), lambda: dense(2, 4), (2, 4)),
    "conv": (
        lambda: nn.Conv2d(3, 5, 3),
        lambda: nn.Conv2d(3, 2, 3, bias=False),
        lambda: nn.Conv2d(2, 5, 1, bias=False),
        (1, 3, 6, 6),
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_merged_adapter_gives_the_adapted_layer_s_outputs(layer):
    make, down, up, shape = LAYERS[layer]
    theirs = nn.ModuleDict({"q": Adapted(make(), down(), up(), 1.5)})
    ours = nn.ModuleDict({"q": make()})
    checkpoint, x = checkpoint_of(arrays_of(theirs), layout="torch"), torch.randn(shape)
    rename = {r"(.*)\.base_layer\.(.*)": r"\1.\2"}

    plan = plan_reuse(checkpoint, ours, rename=rename)
    merged = plan_reuse(checkpoint, ours, rename=rename, adapt={r"q\.weight": "lora 1.5"})
    apply_plan(merged, checkpoint, ours)

    assert {row.name for row in plan.problems} == {"q.lora_A.default.weight", "q.lora_B.default.weight"}
    assert plan.problems[0].advice[0].value == {"q.weight": "lora SCALE"}
    assert torch.allclose(ours["q"](x), theirs["q"](x), atol=1e-6)  # float32: one product in place of two


def test_an_adapter_without_a_scale_or_without_its_arrays_is_refused():
    model = nn.ModuleDict({"q": nn.Linear(2, 2)})
    checkpoint = checkpoint_of(arrays_of(model), layout="torch")

    with pytest.raises(PlanError, match="no method 'lora SCALE'"):
        plan_reuse(checkpoint, model, adapt={"q": "lora SCALE"})
    with pytest.raises(PlanError, match="no single adapter lora_A and lora_B"):
        plan_reuse(checkpoint, model, adapt={r"q\.weight": "lora 1"})


class Normed(nn.Sequential):
    def __init__(self, first, *, eps=1e-5, affine=True):
        super().__init__()
        self.conv, self.bn = first, nn.BatchNorm2d(6, eps=eps, affine=affine)
        self.last = nn.Conv2d(6, 2, 1)
        for array in (self.bn.running_mean, self.bn.running_var, *self.bn.parameters()):
            nn.init.uniform_(array, 0.5, 2)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_folded_norm_gives_the_same_function(kind, bias, affine):
    """The file has the norm, the model none: exported networks are so."""
    theirs = Normed(kind(3, 6, 2, bias=bias), affine=affine).eval()
    ours = nn.Sequential()
    ours.conv, ours.last = kind(3, 6, 2), nn.Conv2d(6, 2, 1)
    checkpoint, x = checkpoint_of(arrays_of(theirs), layout="torch"), torch.randn(2, 3, 5, 5)

    plan = plan_reuse(checkpoint, ours)
    (row,) = [row for row in plan.problems if row.name == "conv.bn"]
    plan = plan_reuse(checkpoint, ours, adapt={r"conv\..*": "fold norm bn"})
    apply_plan(plan, checkpoint, ours)

    assert row.advice[0].value == {"conv.weight": "fold norm bn", "conv.bias": "fold norm bn"}
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)  # float32: scaled before the sums in place of after


def test_another_eps_is_said():
    theirs = Normed(nn.Conv2d(3, 6, 2), eps=0.1).eval()
    ours = nn.Sequential()
    ours.conv, ours.last = nn.Conv2d(3, 6, 2), nn.Conv2d(6, 2, 1)
    checkpoint, x = checkpoint_of(arrays_of(theirs), layout="torch"), torch.randn(2, 3, 5, 5)

    apply_plan(plan_reuse(checkpoint, ours, adapt={"conv": "fold norm bn eps 0.1"}), checkpoint, ours)

    assert torch.allclose(ours(x), theirs(x), atol=1e-5)  # float32: scaled before the sums in place of after


def test_a_norm_behind_the_last_reused_layer_may_stay():
    """A network that is cut there."""
    theirs = Normed(nn.Conv2d(3, 6, 2))
    source = {name: array for name, array in arrays_of(theirs).items() if not name.startswith("last")}
    ours = nn.ModuleDict({"conv": nn.Conv2d(3, 6, 2)})

    assert not plan_reuse(checkpoint_of(source, layout="torch"), ours).problems


def test_a_norm_that_is_not_there_is_answered_with_near_names():
    checkpoint = checkpoint_of(arrays_of(Normed(nn.Conv2d(3, 6, 2))), layout="torch")
    ours = nn.ModuleDict({"conv": nn.Conv2d(3, 6, 2)})

    with pytest.raises(PlanError, match=r"no norm 'bm' to fold. Did you mean 'bn'"):
        plan_reuse(checkpoint, ours, adapt={"conv": "fold norm bm"})
    with pytest.raises(PlanError, match="last keeps no mean and variance"):
        plan_reuse(checkpoint, ours, adapt={"conv": "fold norm last"})


def test_values_by_hand():
    """scale 2, variance 3, eps 1: the kernel is times 1; bias 5 through mean 1 and shift 7 is 11."""
    from regraft.operations.joins import BiasOfNorm, ScaleByNorm
    from regraft.operations.running import run_operations

    one = lambda value: np.array([value], "float32")  # noqa: E731

    assert run_operations([ScaleByNorm(0, 1.0)], [one(4.0), one(2.0), one(3.0)]) == one(4.0)
    assert run_operations([BiasOfNorm(1.0)], [one(5.0), one(1.0), one(3.0), one(2.0), one(7.0)]) == one(11.0)


def test_an_eps_that_is_not_recorded_is_the_frameworks_or_asked_for():
    """Caffe's files record it, so that a file of Caffe's layout without one is not answered by a guess."""
    checkpoint = checkpoint_of(arrays_of(Normed(nn.Conv2d(3, 6, 2))), layout="torch")
    ours = nn.ModuleDict({"conv": nn.Conv2d(3, 6, 2)})

    plan = plan_reuse(checkpoint, ours, adapt={"conv": "fold norm bn"})

    assert "eps 1e-05, the default of torch, because the file does not record it" in plan.rows[0].note
    with pytest.raises(PlanError, match=r"does not record the eps of the norm 'bn'\..* eps 0\.001"):
        plan_reuse(checkpoint, ours, layout="caffe", adapt={"conv": "fold norm bn"})
