"""A pickle that holds nothing but NumPy arrays in dictionaries and lists → named arrays, read where they lie."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.npy_header import NoNumbersError, left_out_note
from regraft.containers.pickle_machine import Machine
from regraft.containers.pickle_objects import PickledRecord, contents_of, key_text
from regraft.containers.spans import Span, mapped
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.pickled_numpy import KNOWN, PickledArray
from regraft.formats.roles import with_roles
from regraft.formats.writers import layout_by_names

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
        pickled = arrays_of_pickled_file(path, 0)
        infos = with_roles({name: info for name, (info, _) in pickled.arrays.items()})
        return Checkpoint(
            path,
            self.name,
            pickled.layout,
            infos,
            lambda name: pickled.arrays[name][1](),
            (path,),
            notes=pickled.notes(),
        )


Arrays = dict[str, tuple[ArrayInfo, Callable[[], np.ndarray]]]
Source = Callable[[int, int], bytes | bytearray]
_MOST_PICKLES = 100_000


@dataclass(frozen=True)
class Pickled:
    """What a pickle holds.

    arrays    name → (info, how to read it)
    left_out  names of arrays of texts, dates or records
    kept      the classes whose objects were not made
    layout    the axis orders of the framework whose names these are; None when they say nothing
    """

    arrays: Arrays
    left_out: list[str]
    kept: tuple[str, ...] = ()
    layout: str | None = None

    def notes(self) -> tuple[str, ...]:
        """What was left out, in sentences."""
        return (*kept_note(self.kept), *left_out_note(self.left_out))


def kept_note(classes: Sequence[str]) -> tuple[str, ...]:
    """The note on classes whose objects are in a pickle and were not made; none when there are none."""
    if not classes:
        return ()
    listed = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
    return (f"Objects of {len(classes)} classes were not made, only the arrays in them are read: {listed}.",)


def arrays_of_pickled_file(path: Path, start: int) -> Pickled:
    """The arrays of the pickle at `start`. Large ones are not read now."""
    content = mapped(path)
    if not content:
        raise CheckpointError(f"{path} is empty.")
    return _arrays(path, content, start, lambda offset, size: Span(path, offset, size).read())


def arrays_of_pickled_bytes(path: Path, content: bytes, start: int) -> Pickled:
    """The same for a pickle that had to be inflated.  path  for messages"""
    return _arrays(path, content, start, lambda offset, size: content[offset : offset + size])


def _arrays(path: Path, content: bytes | mmap.mmap, start: int, source: Source) -> Pickled:
    machine = Machine(content, KNOWN, position=start, keeps=True)
    if content.find(b"joblib.numpy_pickle") >= 0:
        raise CheckpointError(
            f"{path} is a file of joblib's, which stores arrays between the bytes of the pickle; it is not read.\n"
            "Save the arrays: numpy.savez(NEW, **arrays)."
        )
    try:
        root = _all_pickles(machine)
        leaves = list(
            named_leaves(without_object_array(root), lambda value: isinstance(value, PickledArray), limit=len(content))
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}.") from error
    arrays: Arrays = {}
    left_out: list[str] = []
    for keys, array in leaves:
        name = ".".join(keys) or path.stem
        if name in arrays:
            raise CheckpointError(f"{path}: two arrays are named {name}: keys with and without dots collide.")
        try:
            dtype, _, shape = array.checked_type(path=path, name=name)
        except NoNumbersError:
            left_out.append(name)
            continue
        arrays[name] = (ArrayInfo(shape, dtype), _reader(array, source, path, name))
    if not arrays:
        raise CheckpointError(f"{path}: the pickle holds no NumPy arrays in dictionaries or lists.")
    roots = [key_text(key) for key in root] if isinstance(root, dict) else []  # PaddlePaddle keeps a table of names
    return Pickled(arrays, left_out, tuple(machine.kept), layout_by_names([*arrays, *roots]))


def _all_pickles(machine: Machine) -> object:
    """The object of the file's pickle, or a list of all where one follows the other, as `pickle.dump` in a loop writes.

    What follows the first and is no pickle is refused: arrays may lie there.
    """
    objects = [machine.load()]
    while machine.position < len(machine.data) and len(objects) < _MOST_PICKLES:
        objects.append(machine.load())
    return objects if len(objects) > 1 else objects[0]


def _reader(array: PickledArray, source: Source, path: Path, name: str) -> Callable[[], np.ndarray]:
    return lambda: array.read(source, path=path, name=name)


def without_object_array(root: object) -> object:
    """Without the array of objects that `np.save` wraps around a dictionary."""
    while isinstance(root, PickledArray) and isinstance(root.content, list):
        root = root.content[0] if root.shape == () and len(root.content) == 1 else root.content
    return root


_DEEPEST = 64


def named_leaves(root: object, is_leaf: Callable[[Any], bool], *, limit: int) -> Iterator[tuple[tuple[str, ...], Any]]:
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
        elif isinstance(value, PickledRecord):
            waiting.append((path, contents_of(value)))
        else:
            waiting += [((*path, key), item) for key, item in reversed(_items(value))]


def _items(value: object) -> list[tuple[str, Any]]:
    """(key, item) of a dictionary, list or tuple; nothing for other values, such as a history of losses."""
    if isinstance(value, dict):
        return [(key_text(key), item) for key, item in value.items()]
    return [(str(index), item) for index, item in enumerate(value)] if isinstance(value, list | tuple) else []
