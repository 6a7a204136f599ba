"""Tests that an extender inherits: prove an own reader or store with the tests that regraft's own pass.

    class TestMine(FormatContract):
        format = Mine()

        def write(self, folder, arrays):
            ...                              # a checkpoint of this format, by any means
            return folder / "checkpoint.mine"

    class TestMyStore(StoreContract):
        def make_store(self, tmp_path):
            return MyStore(tmp_path)

pytest collects the inherited tests; each gets a fresh folder as `tmp_path`.
"""

import random
import shutil
import time
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regraft.arrays import ITEM_BYTES, Checkpoint
from regraft.errors import CacheError, CheckpointError
from regraft.formats.format import HEAD_BYTES, Format
from regraft.stores.store import Entry, Store
from regraft.tensors.fingerprints import named_ids

# No checkpoint of any format: nothing, text, JSON, zeros, a web page, noise.
_OTHER_BYTES = (
    b"", b"\n", b"not a checkpoint\n", b"{}", b'{"a": [1, 2]}', bytes(64), b"\xff" * 512, b"<html></html>",
    b"version https://git-lfs.github.com/spec/v1\n", random.Random(0).randbytes(HEAD_BYTES),  # noqa: S311
)  # fmt: skip

STORE_MANIFEST = {"trunk": "a", "batch_size": 8}

Damages = Callable[[bytes], Iterator[tuple[bytes, str]]]


class FormatContract(ABC):
    """What every reader must keep. Subclasses name the reader and write a sample; all tests are inherited.

    format             the reader
    arrays             the sample: few and small, since the file is cut at each byte; change it where the format cannot
                       hold these names or dtypes
    open_allowance     bytes that `open` may allocate beside 64 times the file: a foreign library's own buffers
    slowest_s          seconds of processor time after which opening a small damaged file counts as hanging
    """

    format: Format
    arrays: Mapping[str, np.ndarray] = {
        "layer/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
        "layer/bias": np.array([0.5, -0.25, 8.0], np.float32),
    }
    open_allowance: int = 1 << 20
    slowest_s: float = 10.0

    @abstractmethod
    def write(self, folder: Path, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write a checkpoint of these arrays into the folder; return what a user would open."""

    def test_its_own_sample_is_recognised(self, tmp_path: Path) -> None:
        """`recognises` knows what `write` wrote."""
        path = self.write(tmp_path, self.arrays)

        assert self.format.recognises(path, _head(path)), f"{self.format.name} does not recognise its own sample {path}"

    def test_other_bytes_are_not_recognised_and_never_raise(self, tmp_path: Path) -> None:
        """Neither foreign files, nor folders, nor paths that do not exist."""
        for number, content in enumerate(_OTHER_BYTES):
            path = tmp_path / f"other{number}"
            path.write_bytes(content)
            recognised = self.format.recognises(path, content[:HEAD_BYTES])
            assert recognised is False, f"{self.format.name} takes {content[:20]!r}… for its own"
        for path in (tmp_path, tmp_path / "missing", tmp_path / "missing" / "deeper"):
            assert self.format.recognises(path, b"") is False, f"{self.format.name} takes {path} for its own"

    def test_damaged_heads_never_make_recognition_raise(self, tmp_path: Path) -> None:
        """The sample's head, cut anywhere, is recognised or not."""
        path = self.write(tmp_path, self.arrays)
        head = _head(path)
        for size in range(0, len(head), max(1, len(head) // 200)):
            assert self.format.recognises(path, head[:size]) in (True, False)

    def test_values_are_exact(self, tmp_path: Path) -> None:
        """Every array comes back bit for bit, under its name."""
        checkpoint = self.format.open(self.write(tmp_path, self.arrays))

        assert set(checkpoint) == set(self.arrays)
        for name, expected in self.arrays.items():
            np.testing.assert_array_equal(checkpoint.read(name), expected, strict=True, err_msg=name)

    def test_infos_match_what_is_read(self, tmp_path: Path) -> None:
        """Shapes and dtypes are known before reading; files are listed and exist; arrays can be written to."""
        checkpoint = self.format.open(self.write(tmp_path, self.arrays))

        assert checkpoint.format
        assert checkpoint.files, "a checkpoint tells its files, for the provenance"
        assert all(file.is_file() for file in checkpoint.files)
        for name, info in checkpoint.items():
            array = checkpoint.read(name)
            assert array.shape == info.shape, name
            assert info.dtype in ITEM_BYTES, f"{name}: {info.dtype} is not a dtype in NumPy's words"
            assert str(array.dtype) == info.dtype or info.dtype.startswith(("bfloat16", "float8")) or info.note, name
            assert array.flags.writeable, f"{name}: torch.from_numpy warns of arrays that are read-only"

    def test_reading_twice_gives_the_same(self, tmp_path: Path) -> None:
        """A read does not use the array up, and what the user does to it does not come back."""
        checkpoint = self.format.open(self.write(tmp_path, self.arrays))
        for name, expected in self.arrays.items():
            checkpoint.read(name)[...] = 0
            np.testing.assert_array_equal(checkpoint.read(name), expected, err_msg=name)

    def test_opening_reads_only_the_directory(self, tmp_path: Path) -> None:
        """Opening 16 MB of values allocates a small part of them."""
        large = {name: np.ones((2048, 1024), np.float32) for name in self.arrays}
        small = self.write(_made(tmp_path / "small"), self.arrays)
        self.format.open(small)  # imports and tables are not the file's
        path = self.write(_made(tmp_path / "large"), large)

        peak = _peak_of(lambda: self.format.open(path))

        assert peak < 4 << 20, f"opening took {peak} bytes for values of {len(large) * 8 << 20}"

    def test_a_missing_array_is_answered_with_near_names(self, tmp_path: Path) -> None:
        """The message lists the names."""
        checkpoint = self.format.open(self.write(tmp_path, self.arrays))
        try:
            checkpoint.read("no such array")
        except CheckpointError as error:
            assert next(iter(self.arrays)) in str(error)  # noqa: PT017 - the library does not depend on pytest
        else:
            raise AssertionError("an array that is not there was read")

    def test_a_file_cut_at_any_byte_is_refused_or_whole(self, tmp_path: Path) -> None:
        """Truncation gives a CheckpointError, or the very values when what was cut is not needed."""
        for damaged, what in self._damaged(tmp_path, _cuts):
            arrays = self._open_and_read(damaged, what)
            if arrays is not None:
                assert set(arrays) == set(self.arrays), f"{what}: arrays are missing silently"
                for name, array in arrays.items():
                    np.testing.assert_array_equal(array, self.arrays[name], err_msg=f"{what}: {name} differs silently")

    def test_changed_bytes_are_refused_or_read_without_harm(self, tmp_path: Path) -> None:
        """Random damage gives a CheckpointError or arrays; no other error, no hang."""
        for damaged, what in self._damaged(tmp_path, _changes):
            self._open_and_read(damaged, what)

    def test_forged_lengths_allocate_nothing(self, tmp_path: Path) -> None:
        """Large numbers written over any part of the file do not make `open` allocate more than the file's size."""
        for damaged, what in self._damaged(tmp_path, _forgeries):
            size = sum(file.stat().st_size for file in damaged.parent.rglob("*") if file.is_file())
            peak = _peak_of(lambda path=damaged, what=what: self._open_and_read(path, what))  # type: ignore[misc]
            assert peak < 64 * size + self.open_allowance, f"{what}: {peak} bytes were allocated for a file of {size}"

    def _damaged(self, folder: Path, damages: Damages) -> Iterator[tuple[Path, str]]:
        """(path to open, what was damaged) for each damage of each file of a sample."""
        whole = _made(folder / "whole")
        path = self.write(whole, self.arrays)
        self._open_and_read(path, "the sample")
        copy = folder / "damaged"
        shutil.copytree(whole, copy)
        for file in sorted(entry for entry in whole.rglob("*") if entry.is_file()):
            content, target = file.read_bytes(), copy / file.relative_to(whole)
            for damage, what in damages(content):
                target.write_bytes(damage)
                yield copy / path.relative_to(whole), f"{file.name} {what}"
            target.write_bytes(content)

    def _open_and_read(self, path: Path, what: str) -> dict[str, np.ndarray] | None:
        """All arrays, or None when the reader raised CheckpointError. Any other error fails the test."""
        start = time.process_time()
        try:
            checkpoint: Checkpoint = self.format.open(path)
            arrays = {name: checkpoint.read(name) for name in checkpoint}
        except CheckpointError as error:
            assert str(error), f"{what}: the error has no text"  # noqa: PT017 - the library does not depend on pytest
            arrays = None
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__} instead of CheckpointError: {error}") from error
        seconds = time.process_time() - start
        assert seconds < self.slowest_s, f"{what}: opening took {seconds:.0f} s"
        return arrays


class StoreContract(ABC):
    """What every store must keep."""

    @abstractmethod
    def make_store(self, tmp_path: Path) -> Store:
        """An empty store; `tmp_path` is pytest's folder for this test."""

    def make_entry(self, tmp_path: Path) -> Entry:
        """An entry without parts."""
        return self.make_store(tmp_path).entry("k1", STORE_MANIFEST)

    def test_a_new_entry_has_no_parts(self, tmp_path: Path) -> None:
        """And says so without an error."""
        entry = self.make_entry(tmp_path)
        assert entry.parts() == []
        assert entry.key == "k1"

    def test_rows_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        """Every dtype, scalars a row, rows without values."""
        entry = self.make_entry(tmp_path)
        ids, tensors = part_of(5)

        part = entry.commit("p1", ids, tensors)

        assert (part.name, part.count) == ("p1", 5)
        assert np.array_equal(part.ids, ids)
        for name, tensor in tensors.items():
            got = entry.read(part, name, 0, len(tensor)).cpu()
            assert got.dtype == tensor.dtype
            assert torch.equal(got.nan_to_num(), tensor.nan_to_num())
            assert torch.equal(entry.read(part, name, 2, 4).cpu().nan_to_num(), tensor[2:4].nan_to_num())

    def test_parts_are_listed_by_name(self, tmp_path: Path) -> None:
        """In the same order for everybody."""
        entry = self.make_entry(tmp_path)
        for name in ("p2", "p1", "p3"):
            entry.commit(name, *part_of(3, seed=name))

        assert [part.name for part in entry.parts()] == ["p1", "p2", "p3"]

    def test_a_part_is_committed_once(self, tmp_path: Path) -> None:
        """The second builder of the same part changes nothing."""
        entry = self.make_entry(tmp_path)
        first = part_of(4)
        entry.commit("p1", *first)
        part = entry.commit("p1", *part_of(4))

        assert len(entry.parts()) == 1
        assert torch.equal(entry.read(part, "F32", 0, 4).cpu(), first[1]["F32"])

    def test_what_is_committed_is_a_copy(self, tmp_path: Path) -> None:
        """The caller goes on to use its tensors."""
        entry = self.make_entry(tmp_path)
        ids, tensors = part_of(4)
        kept = tensors["F32"].clone()
        part = entry.commit("p1", ids, tensors)
        tensors["F32"].zero_()

        assert torch.equal(entry.read(part, "F32", 0, 4).cpu(), kept)

    def test_another_manifest_under_the_same_key_is_refused(self, tmp_path: Path) -> None:
        """A resumed build never mixes two configurations."""
        store = self.make_store(tmp_path)
        store.entry("k1", STORE_MANIFEST)

        try:
            store.entry("k1", {**STORE_MANIFEST, "batch_size": 9})
        except CacheError as error:
            assert "manifest" in str(error), "the error does not say what differs"  # noqa: PT017 - as above
        else:
            raise AssertionError("the entry of another configuration was opened")

    def test_keys_do_not_see_each_other(self, tmp_path: Path) -> None:
        """Two trunks, two entries."""
        store = self.make_store(tmp_path)
        store.entry("k1", STORE_MANIFEST).commit("p1", *part_of(3))

        assert store.entry("k2", STORE_MANIFEST).parts() == []
        assert len(store.entry("k1", STORE_MANIFEST).parts()) == 1

    def test_a_lease_is_given_back(self, tmp_path: Path) -> None:
        """And can be had again."""
        entry = self.make_entry(tmp_path)
        assert entry.lease("work")
        entry.release("work")
        assert entry.lease("work")
        entry.release("work")

    def test_runs_of_rows_are_read_one_after_the_other(self, tmp_path: Path) -> None:
        """From several parts, into memory that the caller uses again and again."""
        entry = self.make_entry(tmp_path)
        (ids, first), (more_ids, second) = part_of(9), part_of(4, seed="p2")
        parts = entry.commit("p1", ids, first), entry.commit("p2", more_ids, second)
        pieces = [(parts[0], [(0, 1), (3, 6), (7, 9)]), (parts[1], [(1, 3)])]

        for name in first:
            expected = torch.cat([first[name][[0, 3, 4, 5, 7, 8]], second[name][1:3]])
            out = torch.zeros_like(expected)
            entry.read_into(out, name, pieces)
            assert torch.equal(out.nan_to_num(), expected.nan_to_num())


def _cuts(content: bytes) -> Iterator[tuple[bytes, str]]:
    """The file cut at each byte; at 2000 places when it is long."""
    for size in range(0, len(content), max(1, len(content) // 2000)):
        yield content[:size], f"cut at byte {size} of {len(content)}"


def _changes(content: bytes) -> Iterator[tuple[bytes, str]]:
    """400 copies with one to four bytes changed at random; the same ones each time."""
    chance = random.Random(len(content))  # noqa: S311 - damage, not secrets
    for number in range(400 if content else 0):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 4))):
            changed[chance.randrange(len(content))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        yield bytes(changed), f"changed at random (number {number})"


def _forgeries(content: bytes) -> Iterator[tuple[bytes, str]]:
    """Large numbers of 2, 4 and 8 bytes, low byte first and last, at up to 150 places."""
    for position in range(0, len(content), max(1, len(content) // 150)):
        for number in (
            b"\xff\x7f",
            b"\xff\xff\xff\x7f",
            b"\x7f\xff\xff\xff",
            b"\xff" * 8,
            b"\x00\x00\x00\x00\x00\x01\x00\x00",
        ):
            forged = content[:position] + number + content[position + len(number) :]
            yield forged[: len(content)], f"with {number.hex()} at byte {position}"


def part_of(count: int, seed: str = "p1") -> tuple[np.ndarray, dict[str, Tensor]]:
    """Ids and tensors of `count` rows in every dtype that features have."""
    generator = torch.Generator().manual_seed(sum(seed.encode()))
    floats = torch.randn(count, 3, 2, generator=generator)
    floats[0, 0, 0] = torch.nan
    tensors = {
        "F32": torch.randn(count, 7, generator=generator),
        "F64": floats.double(),
        "BF16": floats.bfloat16(),
        "F16": floats.half(),
        "I64": torch.arange(count),
        "I8": torch.arange(count, dtype=torch.int8)[:, None].repeat(1, 3),
        "BOOL": floats[:, 0] > 0,
        "empty": torch.empty(count, 0),
    }
    return named_ids(f"{seed} {row}" for row in range(count)), tensors


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _peak_of(work: Callable[[], object]) -> int:
    """Most bytes that Python and NumPy held at once while the work ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
