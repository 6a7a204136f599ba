"""MXNet's `.params`: named NDArrays, read without MXNet; the `-symbol.json` beside it is consulted."""

import mmap
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.spans import Located, located, mapped
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.mxnet_symbol import Symbol, SymbolNode, read_symbol

# The layout of the bytes is that of NDArray::Save and NDArray::Load (apache/mxnet, src/ndarray/ndarray.cc).
LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPE_FLAGS = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool",
    8: "int16", 9: "uint16", 10: "uint32", 11: "uint64", 12: "bfloat16",
}  # fmt: skip
MAX_RANK = 32  # NumPy's own limit of old; a larger one is damage
FIXED_GAMMA = "fix_gamma is on: the stored values are ignored by MXNet, and read as ones"
LEAF = re.compile(r"(?P<layer>.+?)[_.](?P<leaf>weight|bias|gamma|beta|(?:moving|running)_(?:mean|var|inv_var))$")


@final
class MXNet(Format):
    """`.params` files of MXNet 0.x to 1.x and of Gluon, in all four generations of the array's header."""

    name = "mxnet"
    layout = "mxnet"

    def recognises(self, path: Path, head: bytes) -> bool:
        """The list's magic number and its reserved zero."""
        return head[:16] == struct.pack("<QQ", LIST_MAGIC, 0)

    def open(self, path: Path) -> Checkpoint:
        """The arrays under their own names, without `arg:` and `aux:`, in the order of the symbol or of the file."""
        stored = _read_directory(path)
        symbol_path = _symbol_beside(path)
        symbol = read_symbol(symbol_path) if symbol_path else Symbol()
        owners = symbol.owners()
        infos = {name: _info(name, array, owners.get(name)) for name, array in stored.items()}
        rank = {name: position for position, name in enumerate(owners)}
        ordered = dict(sorted(infos.items(), key=lambda item: rank.get(item[0], len(rank))))
        notes = () if symbol_path else (
            "MXNet writes eps, padding and fix_gamma into the symbol's JSON, and none lies beside the file: where "
            "fix_gamma was on (the default of BatchNorm in the symbol API) the stored gamma counts as 1.",
        )  # fmt: skip
        return Checkpoint(
            path=path, format=self.name, layout=self.layout, infos=ordered,
            reader=lambda name: _read(name, stored, ordered), files=(path, symbol_path) if symbol_path else (path,),
            requirements=tuple(symbol.requirements(stored)), notes=notes,
        )  # fmt: skip


def _read(name: str, stored: Mapping[str, Located], infos: Mapping[str, ArrayInfo]) -> np.ndarray:
    """The values as the network uses them."""
    values = stored[name].read()
    return np.ones_like(values) if infos[name].note == FIXED_GAMMA else values


class MxnetCursor:
    """A position in a mapped file, from which numbers are taken. Raises CheckpointError beyond the end."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        self.path, self.data, self.position = path, data, 0

    def take(self, form: str) -> tuple[int, ...]:
        """The next little-endian numbers, in `struct`'s words."""
        start = self.skip(struct.calcsize("<" + form))
        return struct.unpack_from("<" + form, self.data, start)

    def skip(self, count: int) -> int:
        """Go on by `count` bytes; the position before."""
        if not 0 <= count <= len(self.data) - self.position:
            raise self.damaged(f"{count} bytes are claimed at byte {self.position}, the end is {len(self.data)}")
        self.position += count
        return self.position - count

    def damaged(self, what: str) -> CheckpointError:
        """The error for bytes that are no list of NDArrays."""
        return CheckpointError(f"{self.path}: the file is damaged or cut short ({what}).\nCopy or download it again.")


def _read_directory(path: Path) -> dict[str, Located]:
    """Name → place, in the order of the file."""
    cursor = MxnetCursor(path, mapped(path))
    magic, reserved, count = cursor.take("QQQ")
    if (magic, reserved) != (LIST_MAGIC, 0):
        raise cursor.damaged(f"the magic number is {magic:#x}, expected {LIST_MAGIC:#x}")
    arrays: list[Located | None] = []
    while len(arrays) < count:
        arrays.append(_array(cursor))
    (name_count,) = cursor.take("Q")
    if name_count not in (0, count):
        raise cursor.damaged(f"{count} arrays have {name_count} names")
    names = [_name(cursor) for _ in range(name_count)] or [str(index) for index in range(count)]
    by_name = dict(zip(_plain_names(names), arrays, strict=True))
    if len(by_name) < len(arrays):
        raise cursor.damaged("two arrays have the same name")
    return {name: array for name, array in by_name.items() if array is not None}


def _plain_names(names: list[str]) -> list[str]:
    """The names without the words for weights and states before them, where they stay different."""
    plain = [re.sub(r"^(arg|aux):", "", name) for name in names]
    return plain if len(set(plain)) == len(plain) else names


def _name(cursor: MxnetCursor) -> str:
    """A text with its length before it."""
    start = cursor.skip(cursor.take("Q")[0])
    return cursor.data[start : cursor.position].decode("utf-8", errors="replace")


def _array(cursor: MxnetCursor) -> Located | None:
    """The next array's place; None for one that was saved before it had a shape."""
    (magic,) = cursor.take("I")
    if magic in (V2, V3):
        (storage,) = cursor.take("i")
        if storage != 0:
            raise CheckpointError(
                f"{cursor.path}: a sparse array (storage type {storage}) at byte {cursor.position}; only dense can "
                "be read.\nSave it dense in MXNet: array.tostype('default')."
            )
        shape = _shape(cursor, *cursor.take("i"), item="q")
    elif magic == V1:
        shape = _shape(cursor, *cursor.take("i"), item="q")
    else:  # before the magic numbers the header began with the rank
        shape = _shape(cursor, magic, item="I")
    if shape is None or (not shape and magic != V3):  # a scalar exists in V3 (NumPy semantics) alone
        return None
    _, _, flag = cursor.take("iii")  # the device's kind and number, and the type
    if flag not in TYPE_FLAGS:
        raise cursor.damaged(f"the type {flag} at byte {cursor.position - 4:,} is unknown")
    array = located(cursor.path, "an array", cursor.position, shape, TYPE_FLAGS[flag])
    cursor.skip(array.span.size)
    return array


def _shape(cursor: MxnetCursor, rank: int, *, item: str) -> tuple[int, ...] | None:
    """The next `rank` sizes; None when the rank or a size is unknown (-1)."""
    if rank == -1:
        return None
    if not 0 <= rank <= MAX_RANK:
        raise cursor.damaged(f"an array of rank {rank} before byte {cursor.position:,}")
    shape = cursor.take(f"{rank}{item}")
    if any(size < -1 for size in shape):
        raise cursor.damaged(f"the shape {shape} before byte {cursor.position:,}")
    return None if -1 in shape else shape


def _symbol_beside(path: Path) -> Path | None:
    """`net-symbol.json` for `net-0012.params`, when it exists."""
    prefix = re.sub(r"-\d{4}$", "", path.stem)
    candidate = path.with_name(f"{prefix}-symbol.json")
    return candidate if candidate.is_file() else None


def _info(name: str, array: Located, node: SymbolNode | None) -> ArrayInfo:
    """The array's facts, with the owner from the symbol, or from the name's usual ending.  node  the owner"""
    match = LEAF.match(name)
    leaf = match["leaf"] if match else ""
    if node is None:
        layer = match["layer"] if match else ""
        return ArrayInfo(array.shape, array.dtype, layer=layer, leaf=leaf, layer_type=_type_by_leaf(leaf))
    is_norm = node.operator.startswith("BatchNorm")
    is_fixed = is_norm and name.endswith("gamma") and node.flag("fix_gamma", default=True)
    return ArrayInfo(
        array.shape, array.dtype, layer=node.name, leaf=leaf, layer_type=node.operator,
        note=FIXED_GAMMA if is_fixed else "",
    )  # fmt: skip


def _type_by_leaf(leaf: str) -> str:
    """The type that a leaf alone determines: only batch-norm has moving statistics."""
    return "BatchNorm" if leaf.startswith(("moving", "running")) else ""
