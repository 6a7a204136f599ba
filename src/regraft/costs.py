"""What a cache costs and from which epoch on it pays: measured, then said in a plain sentence."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Cost:
    """The price of caching, measured on the first batches; all seconds are per example.

    count, views   examples, and stored copies of each
    bytes          of the whole cache
    fetch_s        reading, decoding and transforming one example
    trunk_s        the trunk's forward
    write_s        writing a row, the hashing of its input included
    read_s         reading a row back
    """

    count: int
    views: int
    bytes: int
    fetch_s: float
    trunk_s: float
    write_s: float
    read_s: float

    @property
    def seconds(self) -> float:
        """What building takes from nothing."""
        return self.count * self.views * (self.fetch_s + self.trunk_s + self.write_s)

    @property
    def pays_from(self) -> int | None:
        """The first number of epochs E for which (E - V)(fetch + trunk) > E·read + V·write; None when there is none."""
        saved = self.fetch_s + self.trunk_s - self.read_s
        if saved <= 0:
            return None
        return int(self.views * (self.fetch_s + self.trunk_s + self.write_s) / saved) + 1

    def pays(self, epochs: int) -> bool:
        """Whether training for so many epochs is faster with the cache."""
        return self.pays_from is not None and epochs >= self.pays_from

    def __str__(self) -> str:
        copies = f" in {self.views} views" if self.views > 1 else ""
        price = (
            f"Caching {self.count:,} examples{copies} takes about {in_seconds(self.seconds)} and {in_bytes(self.bytes)}"
        )
        if self.pays_from is None:
            return f"{price}; it never pays: reading a row takes as long as computing it."
        return f"{price}; it pays from {self.pays_from} epochs on."


def in_seconds(seconds: float) -> str:
    """A duration for people: "0.3 s", "42 s", "12 min", "3.5 h"."""
    for limit, unit, size in ((10, "s", 1.0), (100, "s", 1.0), (6000, "min", 60.0)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def in_bytes(size: float) -> str:
    """A size for people: "312 bytes", "4.2 MB", "81 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
