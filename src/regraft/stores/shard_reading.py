"""Read rows out of a shard, each block of it compared with its checksum before its first use."""

from collections.abc import Sequence
from typing import Any, final
from zlib import crc32

import numpy as np

from regraft.errors import CacheError
from regraft.stores.place import OpenFile, Place
from regraft.stores.records import BLOCK_BYTES, CommitRecord, changed_shard

Ranges = Sequence[tuple[int, int]]  # first byte, and the byte after the last one


@final
class ShardReader:
    """The shard of a part, and which of its blocks have been checked."""

    def __init__(self, place: Place, record: CommitRecord) -> None:
        self.place, self.record = place, record
        self._stamp: Any = "never read"
        self._checked = np.zeros(len(record.checksums), bool)
        self._is_checked = False

    def read_into(self, content: memoryview, name: str, runs: Sequence[tuple[int, int]]) -> int:
        """Fill `content` from its start with runs of rows of one tensor; the bytes that they take.

        Raises CacheError that names the file when it cannot be read, or is not what was committed.
        """
        tensor = self.record.tensors[name]
        ranges = [tensor.rows(start, stop) for start, stop in runs]
        size = sum(last - first for first, last in ranges)
        try:
            self._read_checked(content[:size], ranges)
        except OSError as error:
            raise CacheError(
                f"{self.place.where(f'parts/{self.record.file}')} cannot be read: {error.strerror or error}.\n"
                "Run again: what is missing is computed again."
            ) from error
        return size

    def _read_checked(self, content: memoryview, ranges: Ranges) -> None:
        """Read, once nobody has written to the file between its check and the end of the reading."""
        file = self.place.opened(f"parts/{self.record.file}")
        while True:
            stamp = file.stamp()
            if stamp != self._stamp:
                self._is_checked, self._stamp = False, stamp
                self._checked[:] = False
            if not self._is_checked:
                self._check(file, ranges)
            self._fill(file, content, ranges)
            if file.stamp() == stamp:
                return

    def _check(self, file: OpenFile, ranges: Ranges) -> None:
        """Compare the blocks that hold these bytes with their checksums, each once."""
        for first, last in ranges:
            for block in range(first // BLOCK_BYTES, -(-last // BLOCK_BYTES)):
                if not self._checked[block]:
                    self._check_block(file, block)
        self._is_checked = bool(self._checked.all())

    def _check_block(self, file: OpenFile, block: int) -> None:
        start = block * BLOCK_BYTES
        content = np.empty(min(BLOCK_BYTES, self.record.size - start), np.uint8)
        self._fill(file, content.data, [(start, start + len(content))])
        if crc32(content.data) != self.record.checksums[block]:
            raise changed_shard(self.place, self.record, f"bytes from {start} on are not those that were written")
        self._checked[block] = True

    def _fill(self, file: OpenFile, content: memoryview, ranges: Ranges) -> None:
        if file.read_into(content, ranges) != len(content):
            raise changed_shard(
                self.place, self.record, f"it ends before byte {ranges[-1][1]}, expected {self.record.size} bytes"
            )
