"""What would end the process."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import regraft
from regraft.errors import SplitError

CRASH = """
import torch
images = torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2)
torch.nn.functional.group_norm(images, 1, torch.ones(8, requires_grad=True)).sum().backward()
"""


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
    for example in (torch.randn(4, 3, 1, 1), pictures(torch.contiguous_format)):
        model = network()
        model[4] = nn.Linear(8 * example[0, 0].numel(), 3)
        regraft.freeze(model, "0")
        trunk, head = regraft.split(model, example)
        head(trunk(example)).sum().backward()


def test_pytorch_still_has_this_defect():
    """When this fails, PyTorch has mended it: the refusal has to go."""
    ended = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, check=False)
    assert ended.returncode < 0
