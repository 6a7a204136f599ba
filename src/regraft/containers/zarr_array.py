"""Zarr arrays of versions 2 and 3 in a folder or a key-value store: what their metadata tell, and their values.

Arrays of version 2 with chunks that are plain, zlib or gzip are read here; others need tensorstore.
Source: Zarr storage specification version 2 and Zarr core specification version 3.
"""

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from regraft.containers.spans import Order, checked_size, decoded_array
from regraft.errors import CheckpointError, MissingLibraryError

_WINDOWS = {"zlib": zlib.MAX_WBITS, "gzip": 16 + zlib.MAX_WBITS}
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}
# Weights compress to about 0.9, zeros far better; more than this for each byte of the whole checkpoint is a bomb.
_MOST_BYTES_PER_BYTE = 32
_FREE_BYTES = 1 << 16


class ArrayStore(ABC):
    """Where the arrays of one checkpoint lie.

    files  all its files
    size   their bytes
    """

    path: Path
    files: list[Path]
    size: int

    @abstractmethod
    def names(self) -> list[str]:
        """The arrays, each with metadata of its own."""

    @abstractmethod
    def keys(self, name: str) -> Collection[str]:
        """What the array has: metadata and chunks."""

    @abstractmethod
    def read(self, name: str, key: str) -> bytes:
        """One of these."""

    @abstractmethod
    def spec(self, name: str) -> dict[str, object]:
        """The array's place in tensorstore's terms."""


def tensorstore(path: Path, why: str) -> Any:
    """The library. Raises MissingLibraryError with what needs it."""
    try:
        import tensorstore as library
    except ImportError as error:
        raise MissingLibraryError(
            f'{path}: {why}; tensorstore is needed to read it. Install it with: pip install "regraft[orbax]"'
        ) from error
    return library


@dataclass(frozen=True)
class ZarrArray:
    """One array.

    codec     "plain", "zlib", "gzip", or what only tensorstore reads
    missing   chunks that are not stored: the writer leaves out those of zeros
    """

    store: ArrayStore
    name: str
    version: int
    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]
    order: Order
    codec: str
    separator: str
    missing: int

    def read(self) -> np.ndarray:
        """The values; bfloat16 and float8 widened to float32. Raises CheckpointError for damaged chunks."""
        if self.codec not in ("plain", *_WINDOWS):
            return self._by_tensorstore()
        size = checked_size(self.chunk, self.dtype, path=self.store.path, name=self.name)
        item = size // prod(self.chunk)
        whole = np.zeros((*self.shape, item), np.uint8)
        there = self.store.keys(self.name)
        for index in product(*(range(-(-s // c)) for s, c in zip(self.shape, self.chunk, strict=True))):
            key = self.separator.join(map(str, index)) or "0"
            if key in there:
                content = self._unpacked(self.store.read(self.name, key), size, key)
                target = whole[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, self.chunk, strict=True))]
                part = np.frombuffer(content, np.uint8).reshape(*self.chunk, item)
                target[...] = part[tuple(slice(0, s) for s in target.shape)]
        return decoded_array(bytearray(whole.tobytes()), self.dtype, self.shape, order=self.order)

    def _unpacked(self, content: bytes, size: int, key: str) -> bytes:
        """The chunk's bytes; no more are made than it should have."""
        if self.codec != "plain":
            stream = zlib.decompressobj(_WINDOWS[self.codec])
            try:
                content = stream.decompress(content, size + 1)
            except zlib.error as error:
                raise self._damaged(f"chunk {key} is no {self.codec} stream ({error})") from error
            if not stream.eof:
                raise self._damaged(f"chunk {key} is cut short, or longer than {size} bytes")
        if len(content) != size:
            raise self._damaged(f"chunk {key} has {len(content)} bytes and should have {size}")
        return content

    def _by_tensorstore(self) -> np.ndarray:
        """Chunks that zstd or blosc packed, and all of version 3."""
        library = tensorstore(self.store.path, f"{self.name} is packed with {self.codec}")
        spec = {"driver": "zarr3" if self.version == 3 else "zarr", "kvstore": self.store.spec(self.name)}
        try:
            values = library.open(spec, open=True, read=True).result().read().result()
        except (ValueError, OSError, RuntimeError, TypeError) as error:
            raise self._damaged(str(error).splitlines()[0][:300]) from error
        values = np.array(values)
        return values.astype(np.float32) if self.dtype.startswith(("bfloat", "float8")) else values

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.store.path}: {self.name} is damaged or cut short: {what}. Download it again.")


def read_array(store: ArrayStore, name: str) -> ZarrArray:
    """The array that its metadata describe. Raises CheckpointError when they are no Zarr, or claim too much."""
    keys = store.keys(name)
    version, key = (3, "zarr.json") if "zarr.json" in keys else (2, ".zarray")
    try:
        described = json.loads(store.read(name, key))
        facts = (_version_3 if version == 3 else _version_2)(described)
        shape, chunk = (tuple(int(size) for size in sizes) for sizes in (facts.pop("shape"), facts.pop("chunk")))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{store.path}: the description of {name} is damaged ({error!r}).") from error
    claimed = checked_size(shape, facts["dtype"], path=store.path, name=name)
    if len(chunk) != len(shape) or min(chunk, default=1) < 1:
        raise CheckpointError(f"{store.path}: {name} of shape {shape} has chunks of shape {chunk}. It is damaged.")
    count = prod(-(-size // part) for size, part in zip(shape, chunk, strict=True))
    padded = checked_size(chunk, facts["dtype"], path=store.path, name=name) * count
    if max(claimed, padded) > _MOST_BYTES_PER_BYTE * store.size + _FREE_BYTES:
        raise CheckpointError(f"{store.path}: {name} claims {padded} bytes and {store.size} are stored. It is damaged.")
    missing = max(0, count - (len(keys) - 1))
    return ZarrArray(store, name, version, shape, chunk=chunk, missing=missing, **facts)


def _version_2(described: dict[str, Any]) -> dict[str, Any]:
    """From `.zarray`."""
    compressor, text = described["compressor"], described["dtype"]
    plain = text.lstrip("<>|=")
    dtype = plain if len(plain) > 3 else f"{_KINDS[plain[0]]}{'' if plain[0] == 'b' else 8 * int(plain[1:])}"
    codec = compressor["id"] if compressor else "plain"
    if described.get("filters") or described.get("order", "C") != "C":
        codec = "filters"
    return {
        "shape": described["shape"], "chunk": described["chunks"], "dtype": dtype, "codec": codec,
        "order": ">" if text[0] == ">" else "<", "separator": described.get("dimension_separator", "."),
    }  # fmt: skip


def _version_3(described: dict[str, Any]) -> dict[str, Any]:
    """From `zarr.json`."""
    codecs = [codec["name"] for codec in described["codecs"]]
    return {
        "shape": described["shape"], "chunk": described["chunk_grid"]["configuration"]["chunk_shape"],
        "dtype": described["data_type"], "codec": f"the codecs {', '.join(codecs)} of Zarr 3", "order": "<",
        "separator": "/",
    }  # fmt: skip
