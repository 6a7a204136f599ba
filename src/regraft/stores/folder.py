"""Features in a folder, here or remote: safetensors shards with commit records, filled by any number of builders."""

import errno
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.foundation.wording import bytes_text
from regraft.stores.leases import STALE_S, Leases
from regraft.stores.place import OpenFile, Place
from regraft.stores.places import place_of
from regraft.stores.records import BLOCK_BYTES, CommitRecord, changed_shard, make_record, read_commit, record_text
from regraft.stores.shards import DTYPES
from regraft.stores.store import Entry, Part, Store
from regraft.tensors.fingerprints import as_bytes, canonical_json

MANIFEST = "manifest.json"
FEW = 32  # parts that are looked up one by one


@final
class FolderStore(Store):
    """Keeps features under a folder, or a URL that fsspec knows, one subfolder for each key.

    root          made when it is missing
    memory_bytes  see Store
    stale_s       a builder whose lease has not changed for so many seconds counts as dead
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

    def absolute(self) -> "FolderStore":
        """The same store for a process with another working folder."""
        root = self.root if "://" in str(self.root) else Path(self.root).absolute()
        return FolderStore(root, memory_bytes=self.memory_bytes, stale_s=self.stale_s)

    def manifests(self) -> dict[str, Mapping[str, Any]]:
        """Those that can be read."""
        place, manifests = place_of(self.root), dict[str, Mapping[str, Any]]()
        for key in place.names():
            with suppress(OSError, ValueError, TypeError, RecursionError):
                manifests[key] = dict(json.loads(place.read(f"{key}/{MANIFEST}")))
        return manifests


@final
class FolderEntry(Entry):
    """One key's folder: parts/NAME.json is the commit record of parts/NAME-CHECKSUM.safetensors."""

    def __init__(self, place: Place, key: str, *, stale_s: float = STALE_S) -> None:
        self.place, self.key = place, key
        self.leases = Leases(place, stale_s=stale_s)
        self._records: dict[str, CommitRecord] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.place, self.key, self.leases.stale_s)

    def parts(self) -> list[Part]:
        """The committed parts. New records are read and the sizes of their shards compared; no shard is read."""
        names = self.place.names("parts")
        present = set(names)
        for name in [name.removesuffix(".json") for name in names if name.endswith(".json")]:
            if name not in self._records:
                record = read_commit(self.place, name, key=self.key)
                if record.file in present:  # a shard that was removed by hand takes its rows with it
                    record.check_size(self.place)
                    self._records[name] = record
        return [self._records[name].part for name in sorted(self._records)]

    def lacking(self, names: Sequence[str]) -> set[str]:
        """Few names are looked up by themselves, however many parts there are."""
        unknown = set(names) - self._records.keys()
        if len(unknown) > FEW:
            self.parts()
            return unknown - self._records.keys()
        return {name for name in unknown if not self._is_committed(name)}

    def _is_committed(self, name: str) -> bool:
        try:
            self.place.size(f"parts/{name}.json")
            self.place.size(f"parts/{read_commit(self.place, name, key=self.key).file}")
        except FileNotFoundError:
            return False
        return True

    def commit(self, name: str, ids: np.ndarray, tensors: Mapping[str, Tensor]) -> Part:
        """Write the shard, then its record: without the record the shard does not count."""
        if name in self._records:
            return self._records[name].part
        facts, chunks = make_record(name, ids, tensors, key=self.key)
        record = CommitRecord(facts)
        try:
            # The checksum is in the shard's name: builders on machines that round differently never mix their files.
            self.place.write(f"parts/{record.file}", chunks)
            self.place.write(f"parts/{name}.json", [record_text(facts)])
        except OSError as error:
            raise cannot_write(self.place, f"parts/{record.file}", error, record.size) from error
        self._records[name] = read_commit(self.place, name, key=self.key)
        return self._records[name].part

    def read(self, part: Part, name: str, start: int, stop: int) -> Tensor:
        """A copy of the rows."""
        tensor = self._records[part.name].tensors[name]
        out = torch.empty((stop - start, *tensor.shape[1:]), dtype=DTYPES[tensor.dtype])
        self.read_into(out, name, [(part, [(start, stop)])])
        return out

    def read_into(self, out: Tensor, name: str, pieces: Sequence[tuple[Part, Sequence[tuple[int, int]]]]) -> None:
        """From the files into `out`, and nowhere between."""
        content, filled = as_bytes(out).data, 0
        for part, runs in pieces if content.nbytes else ():
            record = self._records[part.name]
            tensor = record.tensors[name]
            ranges = [tensor.rows(start, stop) for start, stop in runs]
            size = sum(last - first for first, last in ranges)
            try:
                self._read_checked(record, content[filled : filled + size], ranges)
            except OSError as error:
                raise CacheError(
                    f"{self.place.where(f'parts/{record.file}')} cannot be read: {error.strerror or error}.\n"
                    "Run again: what is missing is computed again."
                ) from error
            filled += size

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
        """Remove the mark. One that stays (the folder is read-only now) does no harm: `ls` lists the entry as
        interrupted.
        """
        with suppress(OSError):
            self.place.remove(f"builds/{work}.json")

    def _read_checked(self, record: CommitRecord, content: memoryview, ranges: Sequence[tuple[int, int]]) -> None:
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

    def _check(self, record: CommitRecord, file: OpenFile, ranges: Sequence[tuple[int, int]]) -> None:
        """Compare the blocks that hold these bytes with their checksums, each once."""
        for first, last in ranges:
            for block in range(first // BLOCK_BYTES, -(-last // BLOCK_BYTES)):
                if not record.checked[block]:
                    self._check_block(record, file, block)
        record.is_checked = bool(record.checked.all())

    def _check_block(self, record: CommitRecord, file: OpenFile, block: int) -> None:
        start = block * BLOCK_BYTES
        content = np.empty(min(BLOCK_BYTES, record.size - start), np.uint8)
        self._fill(record, file, content.data, [(start, start + len(content))])
        if crc32(content.data) != record.checksums[block]:
            raise changed_shard(self.place, record, f"bytes from {start} on are not those that were written")
        record.checked[block] = True

    def _fill(
        self, record: CommitRecord, file: OpenFile, content: memoryview, ranges: Sequence[tuple[int, int]]
    ) -> None:  # fmt: skip
        if file.read_into(content, ranges) != len(content):
            raise changed_shard(
                self.place, record, f"it ends before byte {ranges[-1][1]}, expected {record.size} bytes"
            )


def _reopened(place: Place, key: str, stale_s: float) -> FolderEntry:
    """An entry in another process: its leases are its own."""
    entry = FolderEntry(place, key, stale_s=stale_s)
    entry.parts()
    return entry


def cannot_write(place: Place, name: str, error: OSError, needed: int = 0) -> CacheError:
    """The error for a folder that cannot be written: full, read-only or gone."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = f"There is no room for {place.where(name)}" if full else f"{place.where(name)} cannot be written"
    size = f" ({bytes_text(needed)})" if needed else ""
    way_out = "Free some space" if full else "Make it writable"
    return CacheError(
        f"{what}{size}: {error.strerror or error}.\nWhat was stored before stays valid. {way_out} or choose another "
        "folder, and run again: the build goes on where it stopped."
    )
