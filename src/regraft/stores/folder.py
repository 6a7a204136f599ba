"""Features in a folder, here or remote: safetensors shards with commit records, filled by any number of builders."""

import errno
import gc
import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from regraft.errors import CacheError
from regraft.foundation.wording import bytes_text
from regraft.stores.leases import STALE_S, Leases
from regraft.stores.place import Place
from regraft.stores.places import place_of
from regraft.stores.records import CommitRecord, RecordTable, changed_shard, make_record, read_table
from regraft.stores.shard_reading import ShardReader
from regraft.stores.shards import DTYPES
from regraft.stores.store import Entry, Part, Store
from regraft.tensors.fingerprints import as_bytes, canonical_json

MANIFEST = "manifest.json"
FOLDERS = ("parts", "records", "catalog", "builds", "leases")  # of an entry, beside its manifest
FEW = 32  # parts that are looked up one by one
CATALOGUED = 1024  # records that a builder joins in one file
LEAST_CATALOGUED = 16  # records that are worth one at the end of a build
READERS = 16  # files that are read at once where there are many


@final
class FolderStore(Store):
    """Keeps features under a folder, or a URL that fsspec knows, one subfolder for each key.

    root          made when it is missing
    memory_bytes  see Store
    stale_s       a builder whose lease has not changed for so many seconds counts as dead
    """

    def __init__(self, root: str | Path, *, memory_bytes: int | None = None, stale_s: float = STALE_S) -> None:
        self.root, self.memory_bytes, self.stale_s = root, memory_bytes, stale_s

    def entry(self, key: str, manifest: Mapping[str, object]) -> "FolderEntry":
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
    """One key's folder.

    parts/NAME-CHECKSUM.safetensors  the shard of a part
    records/NAME.record              its commit record: without it the shard does not count
    catalog/NAME.record              the records of many parts once more, so that opening an entry reads few files
    """

    def __init__(self, place: Place, key: str, *, stale_s: float = STALE_S) -> None:
        self.place, self.key = place, key
        self.leases = Leases(place, stale_s=stale_s)
        self._tables: list[RecordTable] = []
        self._starts: list[int] = []  # of each table, among the rows of all
        self._rows: dict[str, int] = {}  # of each part whose record has been read, among the rows of all tables
        self._read: set[str] = set()  # files of records
        self._lost: set[str] = set()  # parts whose shard was removed by hand: it takes its rows with it
        self._readers: dict[str, ShardReader] = {}
        self._own: list[CommitRecord] = []  # committed by this process, and in no catalogue yet

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.place, self.key, self.leases.stale_s)

    def parts(self) -> list[Part]:
        """The committed parts. New records are read, and the sizes of all shards compared; no shard is read."""
        with _no_collection():
            self._load()
            present, there = self.place.files("parts"), dict[str, Part]()
            for table in self._tables:
                for part, (_, file, size) in zip(table.parts, table.files(), strict=True):
                    facts = present.get(file)
                    if facts is not None and facts.size != size:
                        what = f"it has {facts.size} bytes, expected {size}"
                        raise changed_shard(self.place, self._record(part.name), what)
                    if facts is not None:
                        there.setdefault(part.name, part)
            self._lost = self._rows.keys() - there.keys()
            return [there[name] for name in sorted(there)]

    def lacking(self, names: Sequence[str]) -> set[str]:
        """Few names are looked up by themselves, however many parts there are; of many one listing is read."""
        unknown = {name for name in names if name not in self._rows or name in self._lost}
        if len(unknown) <= FEW:
            return {name for name in unknown if name in self._lost or not self._has_record(name)}
        recorded = {file.removesuffix(".record") for file in self.place.names("records")}
        self._load_catalogues()
        return {name for name in unknown - recorded if name not in self._rows} | (unknown & self._lost)

    def _has_record(self, name: str) -> bool:
        try:
            self.place.read(f"records/{name}.record")
        except FileNotFoundError:
            return False
        return True

    def commit(self, name: str, ids: np.ndarray, tensors: Mapping[str, Tensor]) -> Part:
        """Write the shard, then its record: without the record the shard does not count."""
        if name in self._rows and name not in self._lost:
            return self._record(name).part
        record, chunks = make_record(name, ids, tensors, key=self.key)
        table = RecordTable.of([record])
        try:
            self.place.write(f"parts/{record.file}", chunks)
            self.place.write(f"records/{name}.record", [table.content()])
        except OSError as error:
            raise cannot_write(self.place, f"parts/{record.file}", error, record.size) from error
        self._add(table)
        self._lost.discard(name)
        self._readers.pop(name, None)
        self._own.append(record)
        if len(self._own) >= CATALOGUED:
            self._catalogue()
        return record.part

    def read(self, part: Part, name: str, start: int, stop: int) -> Tensor:
        """A copy of the rows."""
        tensor = self._reader(part.name).record.tensors[name]
        out = torch.empty((stop - start, *tensor.shape[1:]), dtype=DTYPES[tensor.dtype])
        self.read_into(out, name, [(part, [(start, stop)])])
        return out

    def read_into(self, out: Tensor, name: str, pieces: Sequence[tuple[Part, Sequence[tuple[int, int]]]]) -> None:
        """From the files into `out`, and nowhere between."""
        content, filled = as_bytes(out).data, 0
        for part, runs in pieces if content.nbytes else ():
            filled += self._reader(part.name).read_into(content[filled:], name, runs)

    def excludes(self) -> bool:
        """Whether the place lets one of several machines create a file."""
        return self.place.excludes()

    def lease(self, name: str) -> bool:
        """Whether this process holds the lease now. Raises CacheError when the folder cannot be written."""
        try:
            return self.leases.acquire(name)
        except OSError as error:
            raise cannot_write(self.place, f"leases/{name}.lock", error) from error

    def release(self, name: str) -> None:
        """Remove the lease."""
        self.leases.release(name)

    def begin(self, work: str, facts: Mapping[str, object]) -> Mapping[str, Any]:
        """Leave a mark that stays when the build is interrupted; take away what dead builders left behind."""
        mark = f"builds/{work}.json"
        try:
            self._remove_orphans()
            if self.place.create(mark, canonical_json(facts).encode()):
                return facts
            with suppress(OSError, ValueError, TypeError):  # finished just now, or not what was written
                return dict(json.loads(self.place.read(mark)))
        except OSError as error:
            raise cannot_write(self.place, mark, error) from error
        return facts

    def join_records(self) -> None:
        """In one file more, where they are worth it."""
        if len(self._own) >= LEAST_CATALOGUED:
            with suppress(OSError):
                self._catalogue()

    def finish(self, work: str, leases: Collection[str] = ()) -> None:
        """Remove the mark, what is left of these leases, and the leases of builders that are known to be dead.

        What stays (the folder is read-only now) does no harm: `ls` lists the entry as interrupted.
        """
        with suppress(OSError):
            self.place.remove_file(f"builds/{work}.json")
            self.leases.clear(leases)
            self.leases.clear_dead()

    def tidy(self) -> list[str]:
        """Remove what dead builders left behind; the files that were removed."""
        removed = [f"leases/{name}.lock" for name in self.leases.clear_dead()] + self._remove_orphans()
        if not self.leases.living():  # a builder looks for records one by one
            joined = [f"records/{name}.record" for name in sorted(self._catalogued() & self._loose())]
            for file in joined:
                self.place.remove_file(file)
            removed += joined
        return removed

    def _remove_orphans(self) -> list[str]:
        """Remove half-written files, and, while nobody builds, shards without a record.

        Whoever writes a shard has held a lease since before, and holds it until the record is there: so the shards are
        listed first, then the leases, then the records.
        """
        for folder in FOLDERS:
            self.place.sweep(folder)
        shards = self.place.names("parts")
        if self.leases.living():
            return []
        self._load()
        recorded = {file for table in self._tables for _, file, _size in table.files()}
        removed = [f"parts/{file}" for file in shards if file not in recorded]
        for file in removed:
            self.place.remove_file(file)
        return removed

    def tables(self) -> Iterator[RecordTable]:
        """The records, read now."""
        self._load()
        yield from self._tables

    def _load(self) -> None:
        """Read the records that are new: first the catalogues, then what is in none of them."""
        loose = self._loose()
        self._load_catalogues()
        try:
            self._read_files([f"records/{name}.record" for name in sorted(loose - self._rows.keys())])
        except FileNotFoundError:  # it went into a catalogue meanwhile
            self._load()

    def _load_catalogues(self) -> None:
        files = [f"catalog/{file}" for file in self.place.names("catalog")]
        self._read_files([file for file in files if file not in self._read])

    def _loose(self) -> set[str]:
        """Names of the parts that have a record of their own."""
        return {file.removesuffix(".record") for file in self.place.names("records")}

    def _catalogued(self) -> set[str]:
        """Names of the parts that are in a catalogue."""
        return {name for table in self._tables if len(table) > 1 for name, _, _ in table.files()}

    def _read_files(self, files: Sequence[str]) -> None:
        with ThreadPoolExecutor(READERS, thread_name_prefix="regraft-records") as pool:
            tables = pool.map(lambda file: read_table(self.place, file, key=self.key), files)
            for file, table in zip(files, tables, strict=True):
                self._add(table)
                self._read.add(file)

    def _add(self, table: RecordTable) -> None:
        start = self._starts[-1] + len(self._tables[-1]) if self._tables else 0
        self._tables.append(table)
        self._starts.append(start)
        for row, part in enumerate(table.parts, start):
            self._rows.setdefault(part.name, row)

    def _catalogue(self) -> None:
        """Join the records of this process in one file, named by what it holds."""
        table = RecordTable.of(self._own)
        name = hashlib.sha256("\n".join(table.part_names()).encode()).hexdigest()[:16]
        self.place.write(f"catalog/c{name}.record", [table.content()])
        self._own = []

    def _record(self, name: str) -> CommitRecord:
        row = self._rows[name]
        number = bisect_right(self._starts, row) - 1
        return self._tables[number].record(row - self._starts[number])

    def _reader(self, name: str) -> ShardReader:
        if name not in self._readers:
            self._readers[name] = ShardReader(self.place, self._record(name))
        return self._readers[name]


def _reopened(place: Place, key: str, stale_s: float) -> FolderEntry:
    """An entry in another process: its leases are its own."""
    entry = FolderEntry(place, key, stale_s=stale_s)
    entry.parts()
    return entry


@contextmanager
def _no_collection() -> Iterator[None]:
    """Of a million objects that are all kept, none is garbage: looking for it takes as long as making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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
