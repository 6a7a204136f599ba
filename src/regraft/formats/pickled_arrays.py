"""A pickle that holds nothing but NumPy arrays in dictionaries and lists → named arrays, read where they lie."""

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from regraft.arrays import ArrayInfo
from regraft.errors import CheckpointError
from regraft.formats.named_arrays import named_leaves
from regraft.formats.pickle_machine import Machine
from regraft.formats.pickled_numpy import KNOWN, PickledArray
from regraft.formats.stored import Span, mapped

Found = dict[str, tuple[ArrayInfo, Callable[[], np.ndarray]]]
Source = Callable[[int, int], bytes | bytearray]


def arrays_of_pickled_file(path: Path, start: int) -> Found:
    """name → (info, how to read it) of the pickle at `start`. The bytes of large arrays are not read now."""
    with mapped(path) as content:
        return _arrays(path, content, start, lambda offset, size: Span(path, offset, size).read())


def arrays_of_pickled_bytes(path: Path, content: bytes, start: int) -> Found:
    """The same for a pickle that had to be inflated.  path  for messages"""
    return _arrays(path, content, start, lambda offset, size: content[offset : offset + size])


def _arrays(path: Path, content: bytes | mmap.mmap, start: int, source: Source) -> Found:
    machine = Machine(content, KNOWN, position=start)
    try:
        root = machine.load()
        leaves = list(named_leaves(unwrapped(root), lambda value: isinstance(value, PickledArray), limit=len(content)))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}.") from error
    found: Found = {}
    for keys, array in leaves:
        name = ".".join(keys) or path.stem
        if name in found:
            raise CheckpointError(f"{path}: two arrays are named {name}: keys with and without dots collide.")
        dtype, _, shape = array.told(path=path, name=name)
        found[name] = (ArrayInfo(shape, dtype), _reader(array, source, path, name))
    if not found:
        raise CheckpointError(f"{path}: the pickle holds no NumPy arrays in dictionaries or lists.")
    return found


def _reader(array: PickledArray, source: Source, path: Path, name: str) -> Callable[[], np.ndarray]:
    return lambda: array.read(source, path=path, name=name)


def unwrapped(root: object) -> object:
    """Without the array of objects that `np.save` wraps around a dictionary."""
    while isinstance(root, PickledArray) and isinstance(root.content, list):
        root = root.content[0] if root.shape == () and len(root.content) == 1 else root.content
    return root
