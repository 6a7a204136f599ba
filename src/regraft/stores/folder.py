"""Features in a folder, here or remote: safetensors shards with commit records, filled by any number of builders."""

import errno
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.stores.leases import STALE_S, Leases
from regraft.stores.places import OpenFile, Place, place_of
from regraft.stores.shards import DTYPES, layout_of, shard_chunks
from regraft.stores.shards import Place as TensorPlace
from regraft.stores.store import Entry, Part, Store
from regraft.tensors.fingerprints import ID_BYTES, as_bytes, canonical_json
from regraft.wording import counted

BLOCK_BYTES = 1 << 20  # what is checked at once: small enough for single rows, large enough for the check to be cheap
MANIFEST = "manifest.json"


@final
class FolderStore(Store):
    """Keeps features under a folder, or a URL that fsspec knows, one subfolder for each key.

    root          made when it is missing
    memory_bytes  see Store
    stale_s       a builder that gave no sign of life for so long is taken for dead
    """

    def __init__(self, root: str | Path, *, memory_bytes: int | None = None, stale_s: float = STALE_S) -> None:
        self.root, self.memory_bytes, self.stale_s = root, memory_bytes, stale_s

    def entry(self, key: str, manifest: Mapping[str, Any]) -> "FolderEntry":
        """The entry of this key; its manifest is written first."""
        place = place_of(f"{self.root}/{key}" if "://" in str(self.root) else Path(self.root) / key)
        content = canonical_json(manifest).encode()
        try:
            known = place.read(MANIFEST)
        except FileNotFoundError:
            try:
                place.write(MANIFEST, [content])
            except OSError as error:
                raise cannot_write(place, MANIFEST, error) from error
            known = content
        except OSError as error:
            raise CacheError(
                f"{place.where(MANIFEST)} cannot be read: {error.strerror or error}.\nMake it readable, or choose "
                "another folder."
            ) from error
        if known != content:
            raise CacheError(
                f"{place.where(MANIFEST)} is not the manifest of this key: it has changed since it was written.\n"
                f"Nothing of this entry is used. Remove it: regraft cache clear {self.root} --key {key}"
            )
        return FolderEntry(place, key, stale_s=self.stale_s)

    def manifests(self) -> dict[str, Mapping[str, Any]]:
        """Those that can be read."""
        place, found = place_of(self.root), dict[str, Mapping[str, Any]]()
        for key in place.names():
            with suppress(OSError, ValueError):
                found[key] = dict(json.loads(place.read(f"{key}/{MANIFEST}")))
        return found


@final
class FolderEntry(Entry):
    """One key's folder: parts/NAME.json is the commit record of parts/NAME-CHECKSUM.safetensors."""

    def __init__(self, place: Place, key: str, *, stale_s: float = STALE_S) -> None:
        self.place, self.key = place, key
        self.leases = Leases(place, stale_s=stale_s)
        self._records: dict[str, Record] = {}

    def __reduce__(self) -> tuple:
        return _reopened, (self.place, self.key, self.leases.stale_s)

    def parts(self) -> list[Part]:
        """The committed parts. New records are read and the sizes of their shards compared; no shard is read."""
        names = self.place.names("parts")
        present = set(names)
        for name in [name.removesuffix(".json") for name in names if name.endswith(".json")]:
            if name not in self._records:
                record = read_record(self.place, name)
                if record.file in present:  # a shard that was removed by hand takes its rows with it
                    record.check_size(self.place)
                    self._records[name] = record
        return [self._records[name].part for name in sorted(self._records)]

    def commit(self, name: str, ids: np.ndarray, tensors: Mapping[str, Tensor]) -> Part:
        """Write the shard, then its record: without the record the shard does not count."""
        if name in self._records:
            return self._records[name].part
        told, chunks = make_record(name, ids, tensors)
        record = Record(told)
        try:
            # The checksum is in the shard's name: builders on machines that round differently never mix their files.
            self.place.write(f"parts/{record.file}", chunks)
            self.place.write(f"parts/{name}.json", [record_text(told)])
        except OSError as error:
            raise cannot_write(self.place, f"parts/{record.file}", error, record.size) from error
        self._records[name] = read_record(self.place, name)
        return self._records[name].part

    def read(self, part: Part, name: str, start: int, stop: int) -> Tensor:
        """A copy of the rows."""
        tensor = self._records[part.name].places[name]
        out = torch.empty((stop - start, *tensor.shape[1:]), dtype=DTYPES[tensor.dtype])
        self.read_into(out, name, [(part, [(start, stop)])])
        return out

    def read_into(self, out: Tensor, name: str, pieces: Sequence[tuple[Part, Sequence[tuple[int, int]]]]) -> None:
        """From the files into `out`, and nowhere between."""
        content, at = as_bytes(out).data, 0
        for part, runs in pieces if content.nbytes else ():
            record = self._records[part.name]
            tensor = record.places[name]
            ranges = [tensor.rows(start, stop) for start, stop in runs]
            size = sum(last - first for first, last in ranges)
            try:
                self._read_checked(record, content[at : at + size], ranges)
            except OSError as error:
                raise CacheError(
                    f"{self.place.where(f'parts/{record.file}')} cannot be read: {error.strerror or error}.\n"
                    "Run again: what is missing is computed again."
                ) from error
            at += size

    def lease(self, name: str) -> bool:
        """Whether this process holds the lease now. Raises CacheError when the folder cannot be written."""
        try:
            return self.leases.acquire(name)
        except OSError as error:
            raise cannot_write(self.place, f"leases/{name}.lock", error) from error

    def release(self, name: str) -> None:
        """Remove the lease."""
        self.leases.release(name)

    def begin(self, work: str, facts: Mapping[str, Any]) -> None:
        """Leave a mark that stays when the build is interrupted; take away what dead builders left half-written."""
        try:
            for folder in ("parts", "leases", "builds"):
                self.place.sweep(folder)
            self.place.write(f"builds/{work}.json", [canonical_json(facts).encode()])
        except OSError as error:
            raise cannot_write(self.place, f"builds/{work}.json", error) from error

    def finish(self, work: str) -> None:
        """Remove the mark. One that stays (the folder is read-only now) hurts nobody: it only tells `ls` less."""
        with suppress(OSError):
            self.place.remove(f"builds/{work}.json")

    def _read_checked(self, record: "Record", content: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
        """Read, once nobody has written to the file between its check and the end of the reading."""
        file = self.place.opened(f"parts/{record.file}")
        while True:
            stamp = file.stamp()
            if stamp != record.stamp:
                record.is_checked = False
                record.checked[:] = False
                record.stamp = stamp
            if not record.is_checked:
                self._check(record, file, ranges)
            self._fill(record, file, content, ranges)
            if file.stamp() == stamp:
                return

    def _check(self, record: "Record", file: OpenFile, ranges: Sequence[tuple[int, int]]) -> None:
        """Compare the blocks that hold these bytes with their checksums, each once."""
        for first, last in ranges:
            for block in range(first // BLOCK_BYTES, -(-last // BLOCK_BYTES)):
                if not record.checked[block]:
                    self._check_block(record, file, block)
        record.is_checked = bool(record.checked.all())

    def _check_block(self, record: "Record", file: OpenFile, block: int) -> None:
        start = block * BLOCK_BYTES
        content = np.empty(min(BLOCK_BYTES, record.size - start), np.uint8)
        self._fill(record, file, content.data, [(start, start + len(content))])
        if zlib.crc32(content.data) != record.checksums[block]:
            raise changed(self.place, record, f"bytes from {start} on are not those that were written")
        record.checked[block] = True

    def _fill(
        self, record: "Record", file: OpenFile, content: memoryview, ranges: Sequence[tuple[int, int]]
    ) -> None:  # fmt: skip
        if file.read_into(content, ranges) != len(content):
            raise changed(self.place, record, f"it ends before byte {ranges[-1][1]}, expected {record.size} bytes")


def _reopened(place: Place, key: str, stale_s: float) -> FolderEntry:
    """An entry in another process: its leases are its own."""
    entry = FolderEntry(place, key, stale_s=stale_s)
    entry.parts()
    return entry


@final
class Record:
    """A commit record: what the shard holds, its rows' ids, its size and checksums."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.file, self.size, self.sha256 = str(told["file"]), int(told["size"]), str(told["sha256"])
        self.places = {
            name: TensorPlace(str(dtype), tuple(shape), int(start), int(stop))
            for name, (dtype, shape, start, stop) in told["tensors"].items()
        }
        self.checksums = [int(checksum) for checksum in told["crc32"]]
        self.checked = np.zeros(len(self.checksums), bool)
        self.is_checked = False
        self.stamp: Any = "never read"  # of the shard when its checks began
        ids = np.frombuffer(bytes.fromhex(told["ids"]), np.uint8).reshape(-1, ID_BYTES)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in self.places.items()}
        self.part = Part(str(told["name"]), ids, shapes)

    def check_size(self, place: Place) -> None:
        """Raise CacheError when the shard is shorter or longer than it was."""
        try:
            size = place.size(f"parts/{self.file}")
        except OSError as error:
            raise CacheError(f"{place.where(f'parts/{self.file}')} cannot be read: {error}") from error
        if size != self.size:
            raise changed(place, self, f"it has {size} bytes, expected {self.size}")


def make_record(
    name: str, ids: np.ndarray, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """What the record of a shard tells, and the shard's bytes in pieces."""
    head, places = layout_of(tensors)
    chunks = shard_chunks(head, tensors, places)
    checksums, size, total = [], 0, hashlib.sha256()
    running = 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        total.update(view)
        while view:
            piece = view[: BLOCK_BYTES - size % BLOCK_BYTES]
            running = zlib.crc32(piece, running)
            size += len(piece)
            view = view[len(piece) :]
            if size % BLOCK_BYTES == 0:
                checksums.append(running)
                running = 0
    if size % BLOCK_BYTES:
        checksums.append(running)
    told = {
        "name": name,
        "rows": len(ids),
        "ids": ids.tobytes().hex(),
        "file": f"{name}-{total.hexdigest()[:8]}.safetensors",
        "size": size,
        "sha256": total.hexdigest(),
        "crc32": checksums,
        "tensors": {leaf: [at.dtype, list(at.shape), at.start, at.stop] for leaf, at in places.items()},
    }
    return told, chunks


def record_text(told: Mapping[str, Any]) -> bytes:
    """The record's file: its facts with a checksum of themselves."""
    own = hashlib.sha256(canonical_json(told).encode()).hexdigest()
    return canonical_json({**told, "checksum": own}).encode()


def read_record(place: Place, name: str) -> Record:
    """The commit record of a part. Raises CacheError that names the file when it is not what was written."""
    path = f"parts/{name}.json"
    try:
        told = json.loads(place.read(path))
        own = told.pop("checksum")
        if own == hashlib.sha256(canonical_json(told).encode()).hexdigest() and told["name"] == name:
            return Record(told)
    except OSError as error:
        raise CacheError(f"{place.where(path)} cannot be read: {error}") from error
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise CacheError(
        f"{place.where(path)} has changed since it was written: its checksum does not fit.\n"
        "Nothing of this part is used. Remove the file and run again: only its rows are computed again."
    )


def changed(place: Place, record: Record, what: str) -> CacheError:
    """The error for a shard that is not what was committed."""
    return CacheError(
        f"{place.where(f'parts/{record.file}')} has changed since it was written: {what}.\n"
        "Nothing of it is used. Remove the file and run again: only "
        f"{counted(record.part.count, 'row', 'is/are')} computed again."
    )


def cannot_write(place: Place, name: str, error: OSError, needed: int = 0) -> CacheError:
    """The error for a folder that cannot be written: full, read-only or gone."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = f"There is no room for {place.where(name)}" if full else f"{place.where(name)} cannot be written"
    size = f" ({needed / 1e6:.1f} MB)" if needed else ""
    way_out = "Free some space" if full else "Make it writable"
    return CacheError(
        f"{what}{size}: {error.strerror or error}.\nWhat was stored before stays valid. {way_out} or choose another "
        "folder, and run again: the build goes on where it stopped."
    )
