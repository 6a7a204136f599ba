"""Look at, verify and clear the entries of a feature folder, here or remote."""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain, compress
from pathlib import Path
from typing import Any, final

from regraft.caches.keys import LAYOUT, key_of
from regraft.caches.worker_reports import FOLDER as WORKERS
from regraft.errors import CacheError
from regraft.foundation.wording import bytes_text, counted, listed, near_names, one_line, seconds_text
from regraft.stores.folder import FOLDERS as STORE_FOLDERS
from regraft.stores.folder import MANIFEST, FolderEntry
from regraft.stores.leases import Leases
from regraft.stores.place import FileFacts, Place
from regraft.stores.places import place_of
from regraft.stores.records import CommitRecord, RecordTable, changed_shard

KEY = re.compile(r"[0-9a-f]{32}")  # what may be cleared: a folder that somebody put there himself is never touched
FOLDERS = (*STORE_FOLDERS, WORKERS)  # of an entry, beside its manifest
OWN_FILE = re.compile(rf"{re.escape(MANIFEST)}|({'|'.join(FOLDERS)})(/[^/]+\.(json|record|safetensors|lock))?")
LOOKERS = 8  # entries that are looked at at once
READ_BYTES = 16 << 20


@final
@dataclass(frozen=True)
class StoredEntry:
    """What a feature folder holds under one key.

    of        the model that the features belong to, by its class, or its layers' classes
    cut       the leaves' names, shapes and dtypes in words
    rows      stored rows; bytes of their shards
    age_s     seconds since the last part was added
    state     "whole", "building" (somebody is), "interrupted" (the next build goes on), "outdated" (of a version of
              regraft that stored otherwise: nothing of it is used, and it may be cleared), or "changed" (since it was
              written, by whatever)
    problems  what is wrong, in sentences; sizes are compared, contents only by `verify_entry`
    """

    key: str
    of: str
    cut: str
    rows: int
    bytes: int
    age_s: float
    state: str
    problems: tuple[str, ...] = ()


def list_entries(root: str | Path) -> list[StoredEntry]:
    """The entries of a feature folder, the newest first. Reads records, no features.

    Raises CacheError when the folder does not exist.
    """
    with ThreadPoolExecutor(LOOKERS, thread_name_prefix="regraft-entries") as pool:
        now = time.time()  # one for all: the order of ages is that of the writing
        entries = pool.map(lambda key: _look_at(root, key, now), _keys(root))
        return sorted(entries, key=lambda entry: (entry.age_s, entry.key))


def entries_table(entries: Sequence[StoredEntry]) -> str:
    """The entries for people, with a line of totals."""
    if not entries:
        return "no stored features"
    blocks = []
    for entry in entries:
        lines = [
            f"{entry.key}  {entry.state}",
            f"  {entry.of}",
            f"  {entry.cut}",
            f"  {entry.rows:,} rows, {bytes_text(entry.bytes)}, {seconds_text(entry.age_s)} old",
            *(f"  {line}" for problem in entry.problems for line in problem.splitlines()),
        ]
        blocks.append("\n".join(map(one_line, lines)))
    total = bytes_text(sum(entry.bytes for entry in entries))
    return "\n".join([*blocks, f"{counted(len(entries), 'entry/entries')}, {total}"])


def verify_entry(root: str | Path, key: str) -> list[str]:
    """What is wrong with an entry, in sentences; none when nothing is. Every byte is read and hashed.

    Raises CacheError when there is no such entry.
    """
    place = place_in(root, key)
    manifest = _manifest(place)
    problems = _manifest_problems(place, key, manifest)
    if manifest.get("layout", LAYOUT) != LAYOUT:
        return problems
    tables, unreadable = _tables(place, key)
    shards = (_shard_problems(place, table.record(row)) for table in tables for row in range(len(table)))
    return [*problems, *unreadable, *dict.fromkeys(chain.from_iterable(shards))]


def tidy_entries(root: str | Path, key: str | None = None) -> dict[str, list[str]]:
    """Remove what dead builders have left in each entry, or in one: the files that were removed, by key.

    These are half-written files, leases of processes that no longer run, shards without a record, and records that are
    in a catalogue too. Of an entry that is being built only the first two are removed. Raises CacheError when there is
    no such entry.
    """
    keys = _keys(root) if key is None else [entry.key for entry in _by_key(list_entries(root), key)]
    places = {key: _place_of(root, key) for key in keys}
    return {
        key: FolderEntry(place, key).tidy() for key, place in places.items() if _manifest(place).get("layout") == LAYOUT
    }


def verify_entries(root: str | Path, keys: Iterable[str] = ()) -> dict[str, list[str]]:
    """The problems of each entry, or of these."""
    return {key: verify_entry(root, key) for key in keys or _keys(root)}


def clear_entries(
    root: str | Path, *, key: str | None = None, older_than_s: float | None = None, keep_bytes: float | None = None
) -> list[StoredEntry]:
    """Remove entries: one by its key (or a key's beginning), those to which nothing was added for so long, or the
    oldest until the rest fits into `keep_bytes`. Returns what was removed. Entries that are being built stay.

    Raises CacheError when no rule is given, no entry has the key, the one that has it is being built, or one holds a
    file that is not a cache's: nothing is removed then.
    """
    _refuse_no_rule(key, older_than_s, keep_bytes)
    entries = list_entries(root)
    chosen = list(_chosen(entries, key, older_than_s, keep_bytes))
    removed = [entry for entry in entries if entry in chosen and entry.state != "building"]
    for entry in removed:
        _refuse_foreign(place_in(root, entry.key), entry.key)
    place = place_of(root)
    place.sweep("")
    for entry in removed:
        place.remove(entry.key)
    return removed


def _refuse_foreign(place: Place, key: str) -> None:
    """Raise CacheError for an entry with other files: somebody's own folder may have a name like a key."""
    inner = [f"{folder}/{name}" for folder in FOLDERS for name in place.names(folder)]
    others = [name for name in (*place.names(), *inner) if not OWN_FILE.fullmatch(name)]
    if others:
        raise CacheError(
            f"Nothing was cleared: {key} holds files that are not those of a feature cache: {listed(others)}.\n"
            "Move them, or remove the folder yourself."
        )


def _chosen(
    entries: Sequence[StoredEntry], key: str | None, older_than_s: float | None, keep_bytes: float | None
) -> Iterator[StoredEntry]:
    """The entries that a rule names. Raises CacheError when none has the key."""
    if key is not None:
        yield from _by_key(entries, key)
    if older_than_s is not None:
        yield from (entry for entry in entries if entry.age_s > older_than_s)
    if keep_bytes is not None:
        sizes = accumulate(entry.bytes for entry in entries)
        yield from compress(entries, (size > keep_bytes for size in sizes))


def _refuse_no_rule(key: str | None, older_than_s: float | None, keep_bytes: float | None) -> None:
    if {key, older_than_s, keep_bytes} == {None}:
        raise CacheError(
            "Nothing was cleared: choose entries by key (--key), by age (--older-than-days) or by the size that may "
            "stay (--keep-gb)."
        )
    if key == "":
        raise CacheError("Nothing was cleared: the key is empty, which would mean every entry.")
    for name, number in (("age in seconds", older_than_s), ("size in bytes", keep_bytes)):
        if number is not None and not 0 <= number < float("inf"):
            raise CacheError(f"Nothing was cleared: the {name} is {number}, expected 0 or more.")


def _keys(root: str | Path) -> list[str]:
    place = place_of(root)
    if "://" not in str(root) and not Path(root).is_dir():
        raise CacheError(f"There is no feature folder {root}.")
    return [name for name in place.names() if KEY.fullmatch(name)]


def _by_key(entries: Sequence[StoredEntry], key: str) -> list[StoredEntry]:
    matches = [entry for entry in entries if entry.key.startswith(key)]
    if len(matches) != 1:
        many = "No entry has" if not matches else f"{len(matches)} entries have"
        raise CacheError(f"{many} the key {key!r}; nothing was cleared. {near_names(key, [e.key for e in entries])}")
    if matches[0].state == "building":
        raise CacheError(f"The entry {matches[0].key} is being built; nothing was cleared. Stop its builders first.")
    return matches


def place_in(root: str | Path, key: str) -> Place:
    """An entry's place. Raises CacheError where there is none."""
    keys = _keys(root)
    if key not in keys:
        raise CacheError(f"There is no entry {key!r} in {root}. {near_names(key, keys)}")
    return _place_of(root, key)


def _place_of(root: str | Path, key: str) -> Place:
    return place_of(f"{root}/{key}" if "://" in str(root) else Path(root) / key)


def _look_at(root: str | Path, key: str, now: float) -> StoredEntry:
    place = _place_of(root, key)
    manifest = _manifest(place)
    problems = _manifest_problems(place, key, manifest)
    shards, records = place.files("parts"), {**place.files("records"), **place.files("catalog")}
    if manifest.get("layout", LAYOUT) == LAYOUT:
        tables, unreadable = _tables(place, key)
        rows, size, wrong = _totals(tables, shards, place)
        problems += [*unreadable, *wrong]
    else:  # what an earlier version stored: only the disk that it takes is known
        rows, size, records = 0, sum(facts.size for facts in shards.values()), shards
    manifest = {} if problems else manifest
    changed = max((facts.changed for facts in records.values()), default=0.0)
    age = max(0.0, now - (changed or place.changed(MANIFEST))) if changed or not problems else 0.0
    return StoredEntry(key, *_words(manifest), rows, size, age, _state(place, manifest, problems), tuple(problems))


def _tables(place: Place, key: str) -> tuple[list[RecordTable], list[str]]:
    """The records of an entry, and what is wrong with them."""
    try:
        return list(FolderEntry(place, key).tables()), []
    except CacheError as error:
        return [], [str(error)]


def _totals(
    tables: Iterable[RecordTable], shards: Mapping[str, FileFacts], place: Place
) -> tuple[int, int, list[str]]:  # fmt: skip
    """Rows and bytes of the shards that are there, and a sentence for each of another size than was written."""
    rows = size = 0
    problems, seen = list[str](), set[str]()
    for table in tables:
        for row, (name, file, expected) in enumerate(table.files()):
            if name in seen or file not in shards:
                continue
            seen.add(name)
            if shards[file].size != expected:
                what = f"it has {shards[file].size} bytes, expected {expected}"
                problems.append(str(changed_shard(place, table.record(row), what)))
            rows, size = rows + int(table.columns["rows"][row]), size + expected
    return rows, size, problems


def _shard_problems(place: Place, record: CommitRecord) -> list[str]:
    """What is wrong with a shard, all of which is read."""
    try:
        is_whole = _sha256(place, record) == record.sha256
    except OSError as error:
        return [f"{place.where(f'parts/{record.file}')} cannot be read: {error}"]
    return [] if is_whole else [f"{place.where(f'parts/{record.file}')} is not what was written. Remove it."]


def _state(place: Place, manifest: Mapping[str, object], problems: Sequence[str]) -> str:
    if problems:
        return "changed"
    if manifest.get("layout") != LAYOUT:
        return "outdated"
    if Leases(place).living():
        return "building"
    return "interrupted" if place.names("builds") else "whole"


def _words(manifest: Mapping[str, object]) -> tuple[str, str]:
    """Model and cut of a manifest, in words."""
    try:
        return _model_text(manifest), _cut_text(manifest)
    except (AttributeError, TypeError, ValueError):  # of another program
        return "unknown model", "unknown cut"


def _model_text(manifest: Mapping[str, Any]) -> str:
    modules: Mapping[str, str] = manifest.get("trunk", {}).get("modules", {})
    classes = [text.split("(")[0] for text in modules.values()]
    layers = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in classes))
    return modules.get("", "").split("(")[0] or layers or "unknown model"


def _cut_text(manifest: Mapping[str, Any]) -> str:
    leaves = ", ".join(_leaf_text(*leaf) for leaf in manifest.get("cut", []))
    precision = manifest.get("precision", "float32")
    return (leaves or "unknown cut") + ("" if precision == "float32" else f", stored as {precision}")


def _leaf_text(name: str, shape: Sequence[int | None], dtype: str) -> str:
    sizes = "×".join("?" if size is None else str(size) for size in shape)
    return f"{name} {sizes} {dtype.removeprefix('torch.')}"


def _manifest(place: Place) -> dict[str, Any]:
    """The entry's manifest; empty where there is none."""
    try:
        manifest = json.loads(place.read(MANIFEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _manifest_problems(place: Place, key: str, manifest: dict[str, Any]) -> list[str]:
    is_whole = key_of(manifest) == key
    return [] if is_whole else [f"{place.where(MANIFEST)} is missing or not the manifest of this key. Clear the entry."]


def _sha256(place: Place, record: CommitRecord) -> bytes:
    total, file = hashlib.sha256(), place.opened(f"parts/{record.file}")
    for start in range(0, record.size, READ_BYTES):
        content = bytearray(min(READ_BYTES, record.size - start))
        file.read_into(memoryview(content), [(start, start + len(content))])
        total.update(content)
    return total.digest()
