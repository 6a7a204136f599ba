"""Commit records: what a shard holds, for which entry, its size and checksums."""

import hashlib
import json
from collections.abc import Mapping
from math import prod
from typing import Any, final
from zlib import crc32

import numpy as np
from torch import Tensor

from regraft.errors import CacheError
from regraft.foundation.wording import counted
from regraft.stores.place import Place
from regraft.stores.shards import DTYPES, StoredTensor, layout_of, shard_chunks
from regraft.stores.store import Part
from regraft.tensors.fingerprints import ID_BYTES, canonical_json

BLOCK_BYTES = 1 << 20  # what is checked at once: small enough for single rows, large enough for the check to be cheap


@final
class CommitRecord:
    """A commit record: what the shard holds, its rows' ids, its size and checksums.

    checked     which blocks of the shard have been compared with their checksums
    is_checked  whether all have been
    stamp       of the shard when its checks began

    Raises ValueError for facts that do not describe a shard.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.key, self.file = str(facts.get("key", "")), str(facts["file"])
        self.size, self.sha256 = int(facts["size"]), str(facts["sha256"])
        self.tensors = {
            name: StoredTensor(str(dtype), tuple(map(int, shape)), int(start), int(stop))
            for name, (dtype, shape, start, stop) in facts["tensors"].items()
        }
        self.checksums = [int(checksum) for checksum in facts["crc32"]]
        self.checked = np.zeros(len(self.checksums), bool)
        self.is_checked = False
        self.stamp: Any = "never read"
        ids = np.frombuffer(bytes.fromhex(facts["ids"]), np.uint8).reshape(-1, ID_BYTES)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in self.tensors.items()}
        self.part = Part(str(facts["name"]), ids, shapes)
        if not all(map(self._fits, self.tensors.values())) or len(self.checksums) != -(-self.size // BLOCK_BYTES):
            raise ValueError("the tensors or checksums are not those of a shard of this size")

    def check_size(self, place: Place) -> None:
        """Raise CacheError when the shard is shorter or longer than it was."""
        try:
            size = place.size(f"parts/{self.file}")
        except OSError as error:
            raise CacheError(f"{place.where(f'parts/{self.file}')} cannot be read: {error}") from error
        if size != self.size:
            raise changed_shard(place, self, f"it has {size} bytes, expected {self.size}")

    def _fits(self, tensor: StoredTensor) -> bool:
        """Whether the tensor lies in the shard and has as many bytes as its shape needs."""
        if tensor.dtype not in DTYPES or min(tensor.shape, default=0) < 0:
            return False
        needed = DTYPES[tensor.dtype].itemsize * prod(tensor.shape)
        return 0 <= tensor.start <= tensor.stop <= self.size and tensor.stop - tensor.start == needed


def make_record(
    name: str, ids: np.ndarray, tensors: Mapping[str, Tensor], *, key: str
) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """The facts of a shard's record, and the shard's bytes in pieces.

    key  of the entry; a record that was copied from another one is refused by it
    """
    head, stored = layout_of(tensors)
    chunks = shard_chunks(head, tensors, stored)
    total, checksums = hashlib.sha256(), list[int]()
    size = running = 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        total.update(view)
        while view:
            piece = view[: BLOCK_BYTES - size % BLOCK_BYTES]
            running = crc32(piece, running)
            size += len(piece)
            view = view[len(piece) :]
            if size % BLOCK_BYTES == 0:
                checksums.append(running)
                running = 0
    if size % BLOCK_BYTES:
        checksums.append(running)
    facts = {
        "key": key,
        "name": name,
        "rows": len(ids),
        "ids": ids.tobytes().hex(),
        "file": f"{name}-{total.hexdigest()[:8]}.safetensors",
        "size": size,
        "sha256": total.hexdigest(),
        "crc32": checksums,
        "tensors": {leaf: [t.dtype, list(t.shape), t.start, t.stop] for leaf, t in stored.items()},
    }
    return facts, chunks


def record_text(facts: Mapping[str, Any]) -> bytes:
    """The record's file: its facts with a checksum of themselves."""
    return canonical_json({**facts, "checksum": _checksum(facts)}).encode()


def read_commit(place: Place, name: str, *, key: str | None) -> CommitRecord:
    """The commit record of a part of the entry `key`; None reads one of a layout that did not record it.

    Raises CacheError that names the file when it is not what was written, or was written for another entry.
    """
    path = f"parts/{name}.json"
    record = _decoded(place, path, name)
    if record is None:
        raise CacheError(
            f"{place.where(path)} has changed since it was written: its checksum does not fit.\n"
            "Nothing of this part is used. Remove the file and run again: only its rows are computed again."
        )
    if key is not None and record.key != key:
        raise CacheError(
            f"{place.where(path)} belongs to the entry {record.key}, and was copied into {key}.\n"
            "Nothing of this part is used. Remove the file and run again: only its rows are computed again."
        )
    return record


def changed_shard(place: Place, record: CommitRecord, what: str) -> CacheError:
    """The error for a shard that is not what was committed."""
    return CacheError(
        f"{place.where(f'parts/{record.file}')} has changed since it was written: {what}.\n"
        "Nothing of it is used. Remove the file and run again: only "
        f"{counted(record.part.count, 'row', 'is/are')} computed again."
    )


def _decoded(place: Place, path: str, name: str) -> CommitRecord | None:
    """The record in a file; None when that is not what was written."""
    try:
        facts = json.loads(place.read(path))
        checksum = facts.pop("checksum")
        return CommitRecord(facts) if checksum == _checksum(facts) and facts["name"] == name else None
    except OSError as error:
        raise CacheError(f"{place.where(path)} cannot be read: {error}") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError):
        return None


def _checksum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()
