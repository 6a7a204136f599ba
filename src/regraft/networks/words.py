"""The texts of a network that become parts of its code: words alone, since files may be hostile and the code is run."""

import re
from collections.abc import Iterator

from regraft.errors import BuildError
from regraft.networks.network import Literal, Network, NetworkInput, Node
from regraft.tensors.trees import find_in

# Modes, dtypes, equations such as "ab,bc->ac". Without brackets, quotes and colons nothing can be called.
_WORDS = re.compile(r"[\w.,> -]*")
_LARGEST, _MOST_AXES = 1 << 31, 16  # of the shape of an input
DTYPES = frozenset({
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128",
})  # fmt: skip


def refuse_code(network: Network) -> None:
    """Raise BuildError for a text in the place of a number or a word: it could run anything."""
    for entry in network.entries:
        _check(entry)
    for where, text in _texts(network):
        if not _WORDS.fullmatch(text):
            raise BuildError(f"Refused: {where} has the setting {text!r:.100}, which is not a word or a number.")


def _check(entry: NetworkInput) -> None:
    """Raise BuildError for an input that is no tensor of numbers."""
    is_shape = all(size is None or (type(size) is int and 0 <= size <= _LARGEST) for size in entry.shape)
    if not is_shape or len(entry.shape) > _MOST_AXES or entry.dtype not in DTYPES:
        raise BuildError(
            f"Refused: the input {entry.name} has the shape {entry.shape!s:.100} and dtype {entry.dtype!r:.50}."
        )


def _texts(network: Network) -> Iterator[tuple[str, str]]:
    """Each text that the code may contain as it is, and which step or input has it."""
    yield from ((f"the input {entry.name}", entry.dtype) for entry in network.entries)
    for node in network.nodes:
        where = f"{node.operator} {node.layer or node.outputs[0]}"
        yield from ((where, text) for text in _texts_of(node))
        for inner in find_in(node.settings, Network):
            yield from _texts(inner)


def _texts_of(node: Node) -> Iterator[str]:
    plain = {name: value for name, value in node.settings.items() if not isinstance(value, Network)}
    yield from find_in(plain, str)
    for literal in find_in(node.inputs, Literal):
        yield literal.dtype
        yield from find_in(literal.value, str)
