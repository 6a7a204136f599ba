"""Repeated blocks as methods."""

import torch

from regraft.arrays import ArrayInfo
from regraft.networks import writing
from regraft.networks.block_methods import Methods, methods_of
from regraft.networks.emitting import emit
from regraft.networks.network import Array, Network, NetworkInput, Node
from regraft.networks.writing import write_source

INFOS = {f"{name}_{place}": ArrayInfo(shape, "float32")
         for name, width in (("block1", 8), ("block2a", 6), ("block3", 8))
         for place, shape in (("a", (width, 4)), ("b", (4, width)))}  # fmt: skip


def residual(name, given):
    """Two dense layers and a sum."""
    a, b = ({"weight": Array((f"{name}_{place}",))} for place in "ab")
    return (
        Node("linear", (given,), (f"{name} a",), {}, f"{name}_a", a),
        Node("relu", (f"{name} a",), (f"{name} r",)),
        Node("linear", (f"{name} r",), (f"{name} b",), {}, f"{name}_b", b),
        Node("add", (given, f"{name} b"), (name,)),
    )


NODES = (*residual("block1", "x"), *residual("block2a", "block1"), *residual("block3", "block2a"))
SOURCE = emit(Network((NetworkInput("x", (None, 4)),), (*NODES, Node("tanh", ("block3",), ("y",))), ("y",)), INFOS)


def module(text):
    """The class of a source, with the same weights each time."""
    scope = {"__name__": "net"}
    exec(compile(text, "net.py", "exec"), scope)
    torch.manual_seed(0)
    return scope["Net"]()


def test_methods_compute_what_the_lines_do(monkeypatch):
    """Bit for bit, with the same names of arrays in the same order."""
    with_methods = module(write_source(SOURCE, "net"))
    monkeypatch.setattr(writing, "methods_of", lambda source: Methods())
    plain = module(write_source(SOURCE, "net"))
    x = torch.randn(3, 4)

    assert list(with_methods.state_dict()) == list(plain.state_dict())
    assert torch.equal(with_methods(x), plain(x))


def test_a_block_is_one_line():
    """In the constructor and in the forward."""
    text = write_source(SOURCE, "net")

    assert 'self.add_block("block2a", 6)' in text
    assert 'x = self.block("block2a", x)' in text
    assert len(methods_of(SOURCE).lines) == 3
