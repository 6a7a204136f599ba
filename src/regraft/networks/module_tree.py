"""The modules and tensors of a network while its code is written, on empty tensors: layers, arrays, constants."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from regraft.arrays import ArrayInfo
from regraft.errors import BuildError
from regraft.networks.axis_orders import Held, as_stored
from regraft.networks.flattened import reordered
from regraft.networks.names import Paths, children_of, expression, tensor_path
from regraft.networks.network import Array, Network, Node, every_node
from regraft.networks.source import ModuleSource, container_text, is_list


class ModuleTree:
    """Makes each layer and tensor when it is used first, and notes in the source how it is made.

    root      holds them, as the network's class will
    children  path of a module that holds others → their names
    """

    def __init__(self, network: Network, infos: Mapping[str, ArrayInfo], source: ModuleSource) -> None:
        self.infos, self.source, self.paths, self.root = infos, source, Paths(), nn.Module()
        nodes = list(every_node(network.nodes))
        layers = [self.paths.path(node.layer) for node in nodes if node.layer]
        self.tensors = self._tensor_paths(nodes)
        self.children = children_of([*layers, *self.tensors.values()])
        self.lists = [path for path, names in self.children.items() if path and is_list(names)]
        for path in self.children:
            put(self.root, path, container(path, self.children))

    def _tensor_paths(self, nodes: Sequence[Node]) -> dict[Array, str]:
        """A path for each array that is an input of a step."""
        tensors: dict[Array, str] = {}
        layers = set(self.paths.of.values())
        for array in dict.fromkeys(value for node in nodes for value in node.inputs if isinstance(value, Array)):
            path = tensor_path(array.sources[0] if array.sources else "constant")
            home, _, leaf = path.rpartition(".")  # a layer may have an array of its own under this name
            tensors[array] = self.paths.unused(f"{home}_{leaf}" if home in layers else path)
        return tensors

    def path(self, node: Node) -> str:
        """Of a layer's module."""
        return self.paths.path(node.layer)

    def tensor(self, array: Array) -> Held:
        """An array of the checkpoint that is an input of a step: a parameter, or a buffer."""
        name = array.sources[0] if array.sources else "constant"
        shape, dtype = array.shape_in(self.infos), array.dtype_in(self.infos)
        path = self.tensors[array]
        if path not in self.source.tensors:
            is_float = "float" in dtype
            is_trained = is_float and not array.is_fixed and bool(array.sources) and self.infos[name].role == "weight"
            kept_dtype = "float32" if is_float else dtype
            self.source.tensors[path] = (array, shape, kept_dtype, is_trained)
            self.source.arrays[path] = array
            kept = torch.empty(shape, dtype=getattr(torch, kept_dtype), device="meta")
            home, _, leaf = path.rpartition(".")
            self.root.get_submodule(home).register_buffer(leaf, kept)
        dtype = "float32" if "float" in dtype else dtype
        return Held(expression(path, self.lists), shape, dtype, as_stored(len(shape)))

    def as_tensor(self, value: Held | None) -> Held | None:
        """Constants of several numbers are buffers, sizes become tensors; single numbers stay numbers."""
        if value is None or value.shape is not None or not isinstance(value.plain, tuple):
            return value
        shape = tuple(torch.tensor(value.plain).shape)
        if not value.is_plain:
            text = f"torch.tensor({value.text}, device=device)"
            return replace(value, text=text, shape=shape, order=as_stored(len(shape)))
        path = self.paths.unused("constant")
        text = f"torch.tensor({value.text}, dtype=torch.{value.dtype})"
        self.source.constants[path] = text
        self.root.register_buffer(path, torch.empty(shape, dtype=getattr(torch, value.dtype), device="meta"))
        return Held(f"self.{path}", shape, value.dtype, as_stored(len(shape)))

    def layer(self, node: Node, text: str, flat: object, frame: dict[str, Any]) -> str:
        """The expression of a layer's module.

        text  makes the module
        flat  how its input is flattened, in the code's order
        """
        path = self.path(node)
        if path not in self.source.constructors:
            self.source.constructors[path] = text
            with torch.device("meta"):
                module = eval(text, frame).eval()  # a constructor of the vocabulary, of checked words
            self._compare(node, module)
            put(self.root, path, module)
            for role, array in node.arrays.items():
                self.source.arrays[f"{path}.{role}"] = reordered(array, flat, role, node.operator)
        return expression(path, self.lists)

    def _compare(self, node: Node, module: nn.Module) -> None:
        """Raise BuildError for settings that ask for other arrays than the file has: they may be very large."""
        state = module.state_dict()
        for role, array in node.arrays.items():
            expected, given = tuple(state[role].shape), array.shape_in(self.infos)
            if expected != given:
                raise BuildError(f"The layer {node.layer} needs a {role} of shape {expected}, the file has {given}.")


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
