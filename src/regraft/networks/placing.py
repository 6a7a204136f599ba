"""Modules under their paths, while a network's code is tried on empty tensors."""

from collections.abc import Mapping, Sequence

from torch import nn

from regraft.networks.source import container_text


def put(root: nn.Module, path: str, module: nn.Module) -> None:
    """The module under its path; what a placeholder there holds stays below it."""
    if not path:
        return
    home, _, name = path.rpartition(".")
    parent = root.get_submodule(home)
    if name in parent._modules:
        module._modules.update(parent.get_submodule(name)._modules)
    parent._modules[name] = module


def container(path: str, children: Mapping[str, Sequence[str]]) -> nn.Module:
    """An empty module that holds others: a list, a dict where their names are no names of Python, else a plain one."""
    kinds: dict[str, type[nn.Module]] = {"nn.ModuleList()": nn.ModuleList, "nn.ModuleDict()": nn.ModuleDict}
    return kinds.get(container_text(path, children), nn.Module)()
