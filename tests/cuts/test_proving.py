"""The proof, and what it leaves."""

import random
import subprocess
import sys

import pytest
import torch
from torch import nn

import regraft
from regraft.cuts.program import Guards
from regraft.cuts.proving import (
    DifferenceError,
    mixing_leaves,
    model_step,
    prove,
    refuse_random_layers,
    watched_trunk,
)
from regraft.errors import FreezeError, SplitError
from splits import Branch, example, frozen, parts, program_of

CRASH = """
import torch
images = torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2)
torch.nn.functional.group_norm(images, 1, torch.ones(8, requires_grad=True)).sum().backward()
"""


def test_a_head_that_differs_by_a_bit_is_refused():
    """What differs is named."""
    model = frozen(Branch())
    program = program_of(model, example())
    arguments = (example(),), {}
    features = watched_trunk(program, Guards(), arguments).features
    expected = model_step(model, arguments, is_training=False)
    prove(program, features, expected)
    off = {name: rows.nextafter(rows + 1) for name, rows in features.items()}
    with pytest.raises(DifferenceError, match=r"output 0, gradient of last\.weight differ on the example"):
        prove(program, off, expected)


def test_a_model_that_cannot_train_on_the_example_is_refused():
    """Its own words are passed on."""

    class Overwrites(nn.Linear):
        def forward(self, x):
            out = super().forward(x).sigmoid()
            kept = out * out
            out.zero_()
            return kept

    with pytest.raises(SplitError, match=r"The model itself fails in a training step on the example: .*inplace"):
        model_step(Overwrites(6, 2), ((example(),), {}), is_training=True)


def test_rows_that_change_with_their_batch_mix():
    """Rounding does not count where the order is another one; in the same place every bit does."""
    rows = torch.tensor([[1.0, 2], [3, 4]])
    order = torch.tensor([1, 0, -1])
    others = torch.tensor([[3.0, 4], [1, 2], [9, 9]])

    def mixing(here, there, again):
        return mixing_leaves({"a": here}, {"a": there}, {"a": again}, order)

    near = others * (1 + 1e-6)
    assert mixing(rows, near, near) == []
    assert mixing(rows, near, others) == ["a"]
    assert mixing(rows, others * 1.01, others * 1.01) == ["a"]
    assert mixing(rows.long(), others.long() + 1, others.long() + 1) == ["a"]


def test_a_frozen_layer_that_draws_is_refused_by_name():
    """Python's numbers as well as torch's."""

    class Noise(nn.Module):
        def __init__(self, draw):
            super().__init__()
            self.draw, self.weight = draw, nn.Parameter(torch.ones(6))

        def forward(self, x):
            return x * self.draw() * self.weight

    for draw in (random.random, lambda: torch.rand(())):
        model = frozen(nn.Sequential(Noise(draw), nn.Linear(6, 2)), "0")
        record, _, _, choice = parts(model, example())
        with pytest.raises(FreezeError, match="0 is frozen, but its forward draws random numbers"):
            refuse_random_layers(model, record, choice.flow.live)


def network():
    """Takes pictures that lie channels-last, as a patch embedding may give them."""
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(128, 3))


def pictures(order):
    return torch.randn(4, 3, 4, 4).to(memory_format=order)


def test_a_group_norm_that_would_end_the_process_is_refused_by_name():
    """With the ways out."""
    model = network()
    regraft.freeze(model, "0")
    with pytest.raises(SplitError, match=r"1 is a trainable group norm .*channels-last.*\nFreeze 1 too, let a layer"):
        regraft.split(model, pictures(torch.channels_last))


@pytest.mark.parametrize("frozen", [["0", "1"], ["1"]])
def test_each_way_out_leads_out(frozen):
    """The norm frozen too, or a layer before it trained."""
    model = network()
    regraft.freeze(model, frozen)
    example = pictures(torch.channels_last)
    trunk, head = regraft.split(model, example)
    head(trunk(example)).sum().backward()


def test_the_usual_order_of_memory_is_no_reason_to_refuse():
    """Nor are pictures of one pixel, whose strides look nearly alike."""
    for images in (torch.randn(4, 3, 1, 1), pictures(torch.contiguous_format)):
        model = network()
        model[4] = nn.Linear(8 * images[0, 0].numel(), 3)
        regraft.freeze(model, "0")
        trunk, head = regraft.split(model, images)
        head(trunk(images)).sum().backward()


def test_pytorch_still_has_this_defect():
    """When this fails, PyTorch has mended it: the refusal has to go."""
    ended = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, check=False)
    assert ended.returncode < 0
