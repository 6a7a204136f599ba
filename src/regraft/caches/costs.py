"""What a cache costs and from which epoch on it pays: measured, then said in a plain sentence."""

from dataclasses import dataclass
from typing import final

from regraft.wording import bytes_text, counted, seconds_text


@final
@dataclass(frozen=True)
class Cost:
    """The price of caching, measured on a batch; all seconds are for one row.

    count, views   examples, and stored copies of each
    missing        rows (count × views at most) that the store lacks
    fetched        rows whose input has to be read, to compute them or to know them
    bytes          of the whole cache
    fetch_s        reading, decoding and transforming an example
    trunk_s        the trunk's forward
    write_s        hashing the input, encoding and hashing the row; not the disk, which takes a fraction of that
    read_s         reading a row back
    """

    count: int
    views: int
    missing: int
    fetched: int
    bytes: int
    fetch_s: float
    trunk_s: float
    write_s: float
    read_s: float

    @property
    def seconds(self) -> float:
        """What building takes now."""
        return self.fetched * self.fetch_s + self.missing * (self.trunk_s + self.write_s)

    @property
    def pays_from(self) -> int | None:
        """The first number of epochs E that are faster with the cache; None when there is none.

        E · count · (fetch + trunk) > seconds + E · count · read; for an empty store and V views that is
        (E - V)(fetch + trunk) > E·read + V·write.
        """
        saved = self.count * (self.fetch_s + self.trunk_s - self.read_s)
        return int(self.seconds / saved) + 1 if saved > 0 else None

    def pays(self, epochs: int) -> bool:
        """Whether training for so many epochs is faster with the cache."""
        return self.pays_from is not None and epochs >= self.pays_from

    def __str__(self) -> str:
        copies = f" in {self.views} views" if self.views > 1 else ""
        stored = (
            "" if self.missing == self.count * self.views else f" ({counted(self.missing, 'row', 'is/are')} missing)"
        )
        size, duration = bytes_text(self.bytes), seconds_text(self.seconds)
        price = f"Caching {counted(self.count, 'example')}{copies}{stored} takes about {duration} and {size}"
        if self.pays_from is None:
            return f"{price}; it does not pay: reading a row takes as long as computing it."
        return f"{price}; it pays from {counted(self.pays_from, 'epoch')} on."
