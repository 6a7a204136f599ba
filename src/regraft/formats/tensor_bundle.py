"""TensorFlow's tensor bundle: the pair of `PREFIX.index` and `PREFIX.data-00000-of-00001`, opened and read.

The ground under the readers of TF1 V2 checkpoints, TF2 object checkpoints and SavedModels. The index (its blocks'
checksums checked) says for each array dtype, shape, shard, offset and size; an array's own checksum is checked when the
array is read (about 5 ms for a megabyte).
Source: tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import final

import numpy as np

from regraft.containers.crc32c import masked_crc32c
from regraft.containers.ordered_code import slice_key
from regraft.containers.protobuf import Value, field_bytes, fields, grouped, last_bytes, last_int, read_varint, signed
from regraft.containers.spans import Extents, Span, checked_size, decoded_array, full_extents, joined
from regraft.containers.sstable import Table
from regraft.errors import CheckpointError

# tensorflow/core/framework/types.proto; quantised integers are read as the integers that they are
DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 11: "int8", 12: "uint8", 13: "int32", 14: "bfloat16", 15: "int16", 16: "uint16", 17: "uint16",
    18: "complex128", 19: "float16", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64", 24: "float8_e5m2",
    25: "float8_e4m3fn",
}  # fmt: skip


NOT_NUMBERS = ("string", "resource", "variant")


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """What the index says of one array or of one slice of an array.

    slices   for each slice the (start, length) of each axis; empty for an array that is stored in one piece
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Extents, ...] = ()


@final
class Bundle:
    """An opened bundle: `entries` by name, numeric arrays read by `read`, the object graph by `read_text`.

    Raises CheckpointError when the index is damaged, a shard is missing, or an array lies outside its shard.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.index = Path(f"{prefix}.index")
        self.entries: dict[str, BundleEntry] = {}
        self._slices: dict[bytes, BundleEntry] = {}
        self._shards = self._read_index()
        self._check_shards()

    @property
    def files(self) -> tuple[Path, ...]:
        """The index and all shards."""
        return (self.index, *self._shards)

    def read(self, name: str) -> np.ndarray:
        """The values of a numeric array, its slices joined."""
        entry = self.entries[name]
        if not entry.slices:
            return self._read_piece(name, entry)
        try:
            pieces = ((extents, self._read_piece(name, piece)) for extents, piece in self._pieces(name, entry))
            return joined(entry.shape, entry.dtype, pieces)
        except CheckpointError as error:
            raise self._named(error, f"{self.index}: {name} is damaged: {error}.") from error

    def read_text(self, name: str) -> bytes:
        """The one byte string of a scalar string array."""
        entry = self.entries[name]
        content = Span(self._shards[entry.shard], entry.offset, entry.size).read()
        length, position = read_varint(content, 0)
        text = bytes(content[position + 4 :])  # 4 bytes: checksum of the length
        if entry.dtype != "string" or len(text) != length:
            raise CheckpointError(f"{self.index}: {name} is not one byte string. Download the file again.")
        return text

    def _read_piece(self, name: str, entry: BundleEntry) -> np.ndarray:
        shard = self._shards[entry.shard]
        content = Span(shard, entry.offset, entry.size).read()
        if masked_crc32c(content) != entry.crc:
            raise CheckpointError(
                f"{shard}: the checksum of {name} is wrong (bytes {entry.offset} to {entry.offset + entry.size}).\n"
                "The file has changed since it was written, or is damaged: download it again."
            )
        return decoded_array(content, entry.dtype, entry.shape)

    def _read_index(self) -> tuple[Path, ...]:
        """Fill the entries; return the shards' paths."""
        shard_count = -1
        try:
            for key, value in Table(self.index):
                if key == b"":
                    shard_count = _shard_count(value)
                elif key[0] == 0:
                    self._slices[key] = _entry(value)
                else:
                    self.entries[key.decode("utf-8", "backslashreplace")] = _entry(value)
        except CheckpointError as error:
            raise self._named(error, f"{self.index}: {error}.") from error
        if not 0 < shard_count <= len(self.entries) + len(self._slices) + 1000:
            raise CheckpointError(f"{self.index} does not record its number of data files. It is damaged.")
        return tuple(Path(f"{self.prefix}.data-{shard:05d}-of-{shard_count:05d}") for shard in range(shard_count))

    def _named(self, error: CheckpointError, text: str) -> CheckpointError:
        """The error itself when it names a file of the bundle, else one with this text."""
        return error if str(self.prefix) in str(error) else CheckpointError(text)

    def _check_shards(self) -> None:
        """Every shard that is needed is there, and every array lies inside its shard."""
        pieces = [(name, piece) for name, entry in self.entries.items() for _, piece in self._pieces(name, entry)]
        sizes = self._sizes_of_shards(sorted({piece.shard for _, piece in pieces}))
        for name, piece in pieces:
            self._check_piece(name, piece, sizes[piece.shard])

    def _sizes_of_shards(self, needed: Sequence[int]) -> dict[int, int]:
        """The sizes of the shards that are needed. Raises CheckpointError when some are missing."""
        if needed and needed[-1] >= len(self._shards):
            raise CheckpointError(f"{self.index}: names data file {needed[-1]} of {len(self._shards)}. It is damaged.")
        missing = [self._shards[shard].name for shard in needed if not self._shards[shard].is_file()]
        if missing:
            raise CheckpointError(
                f"{self.index}: {len(missing)} of {len(self._shards)} data files are missing: "
                f"{', '.join(missing[:9])}.\n"
                "The checkpoint is incomplete: put them in the folder of the index."
            )
        return {shard: self._shards[shard].stat().st_size for shard in needed}

    def _check_piece(self, name: str, piece: BundleEntry, size: int) -> None:
        """The piece lies inside its shard of so many bytes, and has as many bytes as its shape needs."""
        end = piece.offset + piece.size
        if not 0 <= piece.offset <= end <= size:
            raise CheckpointError(
                f"{self._shards[piece.shard]}: {name} should end at byte {end}, the file has {size}.\n"
                "It is truncated or belongs to another index: download it again."
            )
        if piece.dtype in NOT_NUMBERS:
            return
        expected = checked_size(piece.shape, piece.dtype, path=self.index, name=name)
        if expected != piece.size:
            raise CheckpointError(
                f"{self.index}: {name} is {piece.dtype} of shape {piece.shape}, {expected} bytes, but "
                f"{piece.size} bytes are stored. The index is damaged."
            )

    def _pieces(self, name: str, entry: BundleEntry) -> Iterator[tuple[Extents, BundleEntry]]:
        """(extents, entry) of each stored piece: one for a whole array. Raises unless slices fill the array."""
        if not entry.slices:
            yield tuple((0, size) for size in entry.shape), entry
            return
        filled = 0
        for extents in entry.slices:
            full, piece = self._slice(name, entry, extents)
            filled += prod(piece.shape)
            yield full, piece
        if filled != prod(entry.shape):
            raise CheckpointError(
                f"{self.index}: the slices of {name} hold {filled} of {prod(entry.shape)} values. The index is damaged."
            )

    def _slice(self, name: str, entry: BundleEntry, extents: Extents) -> tuple[Extents, BundleEntry]:
        """(extents with all lengths, entry) of one slice."""
        piece, full = self._slices.get(slice_key(name, extents)), full_extents(extents, entry.shape)
        if piece is None:
            raise CheckpointError(f"{self.index}: a slice of {name} is missing. The index is damaged.")
        if full is None or piece.shape != tuple(length for _, length in full) or piece.dtype != entry.dtype:
            raise CheckpointError(f"{self.index}: a slice of {name} lies outside of it. The index is damaged.")
        return full, piece


def _shard_count(header: memoryview) -> int:
    """The number of data files, from the bundle's header. Refuses big-endian bundles and the V1 format."""
    values: dict[int, Value] = dict(fields(header))
    count = values.get(1, 0)
    if not isinstance(count, int):
        raise CheckpointError("this is a checkpoint of TensorFlow's V1 format, not the index of a V2 one")
    if values.get(2, 0) != 0:
        raise CheckpointError(
            "the checkpoint was written on a big-endian machine, which is not supported.\n"
            "Load and save it again with TensorFlow on a little-endian machine (x86, ARM)"
        )
    return count


def _entry(message: memoryview) -> BundleEntry:
    """One BundleEntryProto; absent fields are zero."""
    values = grouped(message)
    dtype, shard, offset, size, crc = (last_int(values[number]) for number in (1, 3, 4, 5, 6))
    slices = tuple(extents_of(field_bytes(value)) for value in values[7])
    # Types above 100 are TF1's "reference to" the type below it.
    known = DTYPES.get(dtype % 100, f"type {dtype}")
    return BundleEntry(known, proto_shape(last_bytes(values[2])), shard, offset, size, crc, slices)


def proto_shape(message: memoryview) -> tuple[int, ...]:
    """A TensorShapeProto."""
    return _shape(bytes(message))


@lru_cache(maxsize=4096)  # networks repeat few shapes many times
def _shape(message: bytes) -> tuple[int, ...]:
    return tuple(
        next((signed(size) for field, size in fields(field_bytes(value)) if field == 1), 0)
        for number, value in fields(message)
        if number == 2
    )


def extents_of(message: memoryview) -> Extents:
    """A TensorSliceProto: (start, length) for each axis; an absent length is the whole axis, −1."""
    extents = []
    for number, value in fields(message):
        if number == 1:
            axis = dict(fields(field_bytes(value)))
            extents.append((signed(axis.get(1, 0)), signed(axis[2]) if 2 in axis else -1))
    return tuple(extents)
