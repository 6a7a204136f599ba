"""Modules are put under their paths."""

from torch import nn

from regraft.networks.module_tree import container, put


def test_a_module_keeps_what_its_placeholder_held():
    """A layer that is also the scope of others."""
    root = nn.Module()
    put(root, "block", nn.Module())
    put(root, "block.conv", nn.ReLU())
    put(root, "block", nn.Linear(2, 3))

    assert isinstance(root.block, nn.Linear)
    assert isinstance(root.block.conv, nn.ReLU)


def test_containers_are_lists_dicts_or_plain_modules():
    """By the names of what they hold."""
    children = {"a": ["0", "1"], "b": ["0", "x"], "c": ["x", "y"]}

    assert [type(container(path, children)) for path in children] == [nn.ModuleList, nn.ModuleDict, nn.Module]
