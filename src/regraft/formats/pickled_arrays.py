"""A pickle that holds nothing but NumPy arrays in dictionaries and lists → named arrays, read where they lie."""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.npy_header import NoNumbersError, left_out_note
from regraft.containers.pickle_machine import Machine
from regraft.containers.pickle_objects import Record, contents_of
from regraft.containers.spans import Span, mapped
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.pickled_numpy import KNOWN, PickledArray
from regraft.formats.roles import with_roles

# How a pickle of a container or of an array begins: protocol 2 to 5, or the text of protocol 0 and 1.
_BINARY = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))
_TEXT = (b"(lp", b"(dp", b"(l.", b"(t", b"cnumpy", b"ccollections\nOrderedDict", b"]q", b"}q", b"(d.")
_TORCH_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa85019")


@final
class NumpyPickle(Format):
    """A `.pkl` of a list, tuple or dictionary of NumPy arrays."""

    name = "numpy-pickle"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file begins as a pickle does and is not torch's."""
        is_binary = head.startswith(_BINARY) and _TORCH_LEGACY not in head[:32]
        return is_binary or head.startswith(_TEXT)

    def open(self, path: Path) -> Checkpoint:
        """The arrays, named by keys and positions joined with dots."""
        found, left_out = arrays_of_pickled_file(path, 0)
        infos = with_roles({name: info for name, (info, _) in found.items()})
        return Checkpoint(
            path, self.name, None, infos, lambda name: found[name][1](), (path,), notes=left_out_note(left_out)
        )


Found = dict[str, tuple[ArrayInfo, Callable[[], np.ndarray]]]
_MOST_PICKLES = 100_000
Source = Callable[[int, int], bytes | bytearray]


def arrays_of_pickled_file(path: Path, start: int) -> tuple[Found, list[str]]:
    """(name → (info, how to read it) of the pickle at `start`, names left out). Large arrays are not read now."""
    content = mapped(path)
    if not content:
        raise CheckpointError(f"{path} is empty.")
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
                f"{path} is a file of joblib's, which stores arrays between the bytes of the pickle; it is not read.\n"
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


_DEEPEST = 64


def named_leaves(root: Any, is_leaf: Callable[[Any], bool], *, limit: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path of keys, leaf) for all leaves under dictionaries, lists, tuples and objects, in their order.

    limit   visits before it is refused: a list that holds itself twice at each of 40 levels has 2⁴⁰ paths

    Raises CheckpointError (without a file's name) when it is nested too deeply or shared too often.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    visits = 0
    while waiting:
        path, value = waiting.pop()
        visits += 1
        if visits > limit or len(path) > _DEEPEST:
            raise CheckpointError("the objects are nested in one another without end")
        if isinstance(value, PickledArray) and isinstance(value.content, list):
            waiting.append((path, value.content))  # an array of objects
        elif is_leaf(value):
            yield path, value
        elif isinstance(value, Record):
            waiting.append((path, contents_of(value)))
        elif isinstance(value, dict):
            waiting += [((*path, str(key)), item) for key, item in reversed(value.items())]
        elif isinstance(value, (list, tuple)):
            # Long lists of plain values (a history of losses, say) hold no arrays.
            waiting += [((*path, str(index)), item) for index, item in reversed(list(enumerate(value)))]
