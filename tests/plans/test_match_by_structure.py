"""Networks under other names are matched by wiring, else by order and words: right or ambiguous, never wrong."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from in_memory import arrays_of, checkpoint_of, keras_arrays_of
from regraft.arrays import Requirement
from regraft.loading import apply_plan
from regraft.matching import plan_reuse


class Block(nn.Module):
    """A residual block whose shortcut has the shape of its last convolution."""

    def __init__(self, *, bias=True, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv1 = nn.Conv2d(4, 4, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 1)
        self.downsample = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, classes)

    def forward(self, x):
        x = self.stem(x)
        inner = self.conv2(self.bn1(self.conv1(x)).relu())
        return self.fc((inner + self.downsample(x)).relu().mean((2, 3)))


NAMES = {"stem": "conv", "downsample": "b_0", "conv1": "b_1", "bn1": "b_1_bn", "conv2": "b_2", "fc": "predictions"}
WIRING = {
    "conv": [], "b_0": ["conv"], "b_1": ["conv"], "b_1_bn": ["b_1"], "b_1_relu": ["b_1_bn"], "b_2": ["b_1_relu"],
    "sum": ["b_0", "b_2"], "relu": ["sum"], "pool": ["relu"], "predictions": ["pool"],
}  # fmt: skip
OPERATIONS = {"sum": "Add", "pool": "GlobalAveragePooling2D", "relu": "ReLU", "b_1_relu": "ReLU"}


def source_of(model, *, wiring=True):
    """The model as Keras stores it, under other names, the shortcut before the main branch."""
    layers = {NAMES[name]: module for name, module in model.named_children()}
    arrays = keras_arrays_of({name: layers[name] for name in NAMES.values()})
    facts = [Requirement(name, "inputs", feeding) for name, feeding in WIRING.items()]
    facts += [Requirement(name, "operation", word) for name, word in OPERATIONS.items()]
    facts += [Requirement(name, "activation", "relu") for name, word in OPERATIONS.items() if word == "ReLU"]
    return checkpoint_of(arrays, layout="tensorflow", requirements=tuple(facts) if wiring else ())


def randomised(model):
    for array in model.state_dict().values():
        if array.is_floating_point():
            array.copy_(torch.rand_like(array) + 0.5)
    return model.eval()


def test_the_wiring_finds_every_layer_though_order_and_shape_would_not():
    theirs, ours = randomised(Block()), Block().eval()
    checkpoint = source_of(theirs)

    plan = plan_reuse(checkpoint, ours, match="structure")
    apply_plan(plan, checkpoint, ours)

    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(ours(x), theirs(x))
    assert "6 of 6 layers, by the wiring" in plan.notes[-1]
    assert all("structure" in row.note for row in plan.reused)


def test_a_bias_without_a_place_is_folded_into_the_norm_behind_it():
    theirs, ours = randomised(Block()), Block(bias=False).eval()
    checkpoint = source_of(theirs)

    plan = plan_reuse(checkpoint, ours, match="structure")
    apply_plan(plan, checkpoint, ours)

    x = torch.randn(2, 3, 4, 5)
    assert next(row for row in plan.rows if row.name == "bn1.running_mean").status == "adapted"
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)  # float32: the bias is subtracted at another place


def test_another_head_and_a_pattern_leave_the_rest_alone():
    plan = plan_reuse(source_of(randomised(Block())), Block(classes=7), match="structure", reuse="stem|conv.|bn1")

    assert not plan.problems
    assert {row.name for row in plan.rows if row.status == "kept_init" and row.target} >= {"fc.weight", "fc.bias"}


def test_without_wiring_layers_that_only_order_tells_apart_are_ambiguous():
    """The shortcut and the convolutions have one shape: nothing in the file says which is which."""
    plan = plan_reuse(source_of(randomised(Block()), wiring=False), Block(), match="structure")
    status = {row.name: row.status for row in plan.rows}

    assert {status[f"{name}.weight"] for name in ("conv1", "conv2", "downsample")} == {"ambiguous"}
    assert status["fc.weight"] == "converted"


def test_a_forward_that_cannot_be_followed_is_told_and_its_poolings_too():
    """Values decide in it: names and order are all there is, and nothing tells how it pools."""

    class Deciding(Block):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    theirs = source_of(randomised(Block()))
    same = {"pool": "max", "pool_size": [3, 3], "strides": [2, 2], "padding": "same", "operation": "MaxPooling2D"}
    facts = [Requirement("p", attribute, value) for attribute, value in same.items()]

    plan = plan_reuse(replace(theirs, requirements=(*theirs.requirements, *facts)), Deciding(), match="structure")

    assert "because the model's forward cannot be traced" in plan.notes[-1]
    assert any('MaxPooling2D with padding "same"' in note for note in plan.notes)


def test_a_rename_rule_settles_what_is_ambiguous():
    rename = {"b_0/(.*)": r"downsample/\1", "b_1/(.*)": r"conv1/\1", "b_2/(.*)": r"conv2/\1"}

    plan = plan_reuse(source_of(randomised(Block()), wiring=False), Block(), match="structure", rename=rename)

    assert not [row for row in plan.problems if row.name.endswith("weight")]


def test_repeated_layers_that_only_numbers_tell_apart_keep_their_order():
    theirs = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))
    ours = nn.Module()
    ours.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))
    checkpoint = checkpoint_of(arrays_of(theirs, prefix="layers."), layout="torch")

    plan = plan_reuse(checkpoint, ours, match="structure")

    assert [row.sources[0] for row in plan.reused[::2]] == [f"layers.{index}.weight" for index in range(12)]


def test_a_separable_convolution_is_two_layers():
    model = nn.Sequential(OrderedDict(wide=nn.Conv2d(4, 8, 3, groups=4, bias=False), point=nn.Conv2d(8, 5, 1)))
    arrays = {
        "sep/depthwise_kernel": np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype("float32"),
        "sep/pointwise_kernel": np.ones((1, 1, 8, 5), np.float32),
        "sep/bias": np.ones(5, np.float32),
    }
    wiring = (Requirement("sep", "inputs", []), Requirement("sep", "operation", "SeparableConv2D"))
    leaves = {name: tuple(name.split("/")) for name in arrays}
    checkpoint = checkpoint_of(arrays, layout="tensorflow", requirements=wiring, placed=leaves)

    plan = plan_reuse(checkpoint, model, match="structure")

    assert not plan.problems
    assert {row.name: row.sources for row in plan.reused} == {
        "wide.weight": ("sep/depthwise_kernel",),
        "point.weight": ("sep/pointwise_kernel",),
        "point.bias": ("sep/bias",),
    }


def test_what_stays_open_is_answered_by_the_rule_for_the_layer_at_its_place():
    """Queries, keys and values of other names: the order may be another, so that the rule is offered, not applied."""
    source = nn.ModuleDict({"a": nn.Linear(3, 4), **{name: nn.Linear(4, 4) for name in ("left", "right")}})
    model = nn.ModuleDict({"x": nn.Linear(3, 4), **{name: nn.Linear(4, 4) for name in ("query", "key")}})

    plan = plan_reuse(checkpoint_of(arrays_of(source), layout="torch"), model, match="structure")

    assert {row.target: row.advice[0].value for row in plan.problems if row.target.endswith("weight")} == {
        "query.weight": {r"left[./](.*)": r"query.\1"},
        "key.weight": {r"right[./](.*)": r"key.\1"},
    }
    assert "2 layers have this kind and shape in the checkpoint" in plan.problems[0].note
