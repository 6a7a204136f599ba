"""What people save with torch: a state dict, or one inside a dictionary beside optimiser, copies and counters."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.npy_header import NoNumbersError, left_out_note
from regraft.containers.pickle_objects import key_text
from regraft.errors import CheckpointError
from regraft.formats.pickled_arrays import named_leaves, without_object_array
from regraft.formats.pickled_numpy import PickledArray
from regraft.formats.roles import roles_of
from regraft.formats.torch_pickle import PickledTensor, QuantisedTensor, is_leaf
from regraft.formats.writers import layout_in_torch

ReadTensor = Callable[[PickledTensor, str], np.ndarray]
ReadChunk = Callable[[int, int], bytes | bytearray]
Leaf = PickledTensor | QuantisedTensor | PickledArray
Named = list[tuple[tuple[str, ...], Leaf]]


def open_state_dict(
    path: Path,
    format_name: str,
    root: object,
    read_tensor: ReadTensor,
    read_chunk: ReadChunk,
    *,
    limit: int,
    notes: tuple[str, ...] = (),
) -> Checkpoint:
    """The checkpoint over an unpickled root. A single wrapper around the weights ("state_dict", "model") is dropped.

    limit   as for `named_leaves`
    notes   what the reader has to say of the file
    """
    leaves, left_out = _numeric(_leaves(root, path, limit), path)
    if not leaves:
        raise CheckpointError(f"{path} holds no tensors: {_described(root)}.\nSave `model.state_dict()`.")
    stored = {".".join(keys): _info(leaf, path, ".".join(keys)) for keys, leaf in leaves}
    # Judged with the containers' names: "optimizer", "ema", "state_dict_ema" beside the weights.
    roles = roles_of(stored)
    wrapper = _wrapper([keys for keys, _ in leaves if ".".join(keys) not in roles])
    if wrapper:
        notes += (f"The weights lie under {'.'.join(wrapper)!r} in the file; their names are given without it.",)
    infos: dict[str, ArrayInfo] = {}
    arrays: dict[str, Leaf] = {}
    for keys, leaf in leaves:
        full = ".".join(keys)
        name = _short_name(keys, wrapper) or path.stem
        if name in infos:
            raise CheckpointError(f"{path}: two arrays are named {name}: keys with and without dots collide.")
        infos[name] = replace(stored[full], role=roles[full]) if full in roles else stored[full]
        arrays[name] = leaf

    def read(name: str) -> np.ndarray:
        leaf = arrays[name]
        if isinstance(leaf, PickledArray):
            return leaf.read(read_chunk, path=path, name=name)
        if isinstance(leaf, QuantisedTensor):
            return leaf.values(lambda part: read_tensor(part, name))
        return read_tensor(leaf, name)

    layout = layout_in_torch(infos)
    return Checkpoint(path, format_name, layout, infos, read, (path,), notes=(*notes, *left_out_note(left_out)))


def _leaves(root: object, path: Path, limit: int) -> Named:
    try:
        return list(named_leaves(without_object_array(root), is_leaf, limit=limit))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}.") from error


def _short_name(keys: tuple[str, ...], wrapper: tuple[str, ...]) -> str:
    """The name without the wrapper around all weights."""
    return ".".join(keys[len(wrapper) :] if keys[: len(wrapper)] == wrapper else keys)


def _numeric(leaves: Named, path: Path) -> tuple[Named, list[str]]:
    """(the leaves that hold numbers, the names of the others)."""
    numeric, left_out = [], []
    for keys, leaf in leaves:
        try:
            if isinstance(leaf, PickledArray):
                leaf.checked_type(path=path, name=".".join(keys))
            numeric.append((keys, leaf))
        except NoNumbersError:
            left_out.append(".".join(keys))
    return numeric, left_out


def _info(leaf: Leaf, path: Path, name: str) -> ArrayInfo:
    if isinstance(leaf, PickledArray):
        dtype, _, shape = leaf.checked_type(path=path, name=name)
        return ArrayInfo(shape, dtype)
    leaf.check(path=path, name=name)
    if isinstance(leaf, QuantisedTensor):
        return ArrayInfo(leaf.integers.shape, "float32", note=leaf.note)
    return ArrayInfo(leaf.shape, leaf.dtype)


def _wrapper(weights: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The path that all weights share and that is a container's, not a layer's: the longest common beginning.

    A state dict's own keys hold dots ("layer1.0.weight") and are one key here, so only real nesting counts; a lone
    tensor's key is its name and is never dropped.
    """
    wrapper: tuple[str, ...] = ()
    while weights and all(len(keys) > len(wrapper) + 1 for keys in weights):
        nexts = {keys[len(wrapper)] for keys in weights}
        if len(nexts) != 1:
            break
        wrapper = (*wrapper, nexts.pop())
    return wrapper


def _described(root: object) -> str:
    if not isinstance(root, dict):
        return f"its content is a {type(root).__name__}"
    keys = ", ".join(map(key_text, list(root)[:10]))
    return f"a dictionary with the keys {keys}" if keys else "an empty dictionary"
