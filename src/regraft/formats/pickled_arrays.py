"""A pickle that holds nothing but NumPy arrays in dictionaries and lists → named arrays, read where they lie."""

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from regraft.arrays import ArrayInfo
from regraft.containers.npy_header import NoNumbersError
from regraft.containers.pickle_machine import Machine
from regraft.containers.spans import Span, mapped
from regraft.errors import CheckpointError
from regraft.formats.named_arrays import named_leaves
from regraft.formats.pickled_numpy import KNOWN, PickledArray

Found = dict[str, tuple[ArrayInfo, Callable[[], np.ndarray]]]
_MOST_PICKLES = 100_000
Source = Callable[[int, int], bytes | bytearray]


def arrays_of_pickled_file(path: Path, start: int) -> tuple[Found, list[str]]:
    """(name → (info, how to read it) of the pickle at `start`, names left out). Large arrays are not read now."""
    with mapped(path) as content:
        return _arrays(path, content, start, lambda offset, size: Span(path, offset, size).read())


def arrays_of_pickled_bytes(path: Path, content: bytes, start: int) -> tuple[Found, list[str]]:
    """The same for a pickle that had to be inflated.  path  for messages"""
    return _arrays(path, content, start, lambda offset, size: content[offset : offset + size])


def _arrays(path: Path, content: bytes | mmap.mmap, start: int, source: Source) -> tuple[Found, list[str]]:
    machine = Machine(content, KNOWN, position=start)
    try:
        root = _all_pickles(machine)
        leaves = list(named_leaves(unwrapped(root), lambda value: isinstance(value, PickledArray), limit=len(content)))
    except CheckpointError as error:
        if content.find(b"joblib.numpy_pickle") >= 0:
            raise CheckpointError(
                f"{path} is a file of joblib's, whose arrays lie between the pickle's own bytes; it is not read.\n"
                "Save the arrays: numpy.savez(NEW, **arrays)."
            ) from error
        raise CheckpointError(f"{path}: {error}.") from error
    found: Found = {}
    left_out: list[str] = []
    for keys, array in leaves:
        name = ".".join(keys) or path.stem
        if name in found:
            raise CheckpointError(f"{path}: two arrays are named {name}: keys with and without dots collide.")
        try:
            dtype, _, shape = array.told(path=path, name=name)
        except NoNumbersError:
            left_out.append(name)
            continue
        found[name] = (ArrayInfo(shape, dtype), _reader(array, source, path, name))
    if not found:
        raise CheckpointError(f"{path}: the pickle holds no NumPy arrays in dictionaries or lists.")
    return found, left_out


def _all_pickles(machine: Machine) -> object:
    """The object of the file's pickle, or a list of all where one follows the other, as `pickle.dump` in a loop writes.

    What follows the first and is no pickle is refused: arrays may lie there.
    """
    found = [machine.load()]
    while machine.position < len(machine.data) and len(found) < _MOST_PICKLES:
        found.append(machine.load())
    return found if len(found) > 1 else found[0]


def _reader(array: PickledArray, source: Source, path: Path, name: str) -> Callable[[], np.ndarray]:
    return lambda: array.read(source, path=path, name=name)


def unwrapped(root: object) -> object:
    """Without the array of objects that `np.save` wraps around a dictionary."""
    while isinstance(root, PickledArray) and isinstance(root.content, list):
        root = root.content[0] if root.shape == () and len(root.content) == 1 else root.content
    return root
