"""What each worker of a build has done, kept beside the parts, so that any process can tell how far all of them are."""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, fields
from typing import final

from regraft.caches.options import Share
from regraft.caches.sampling import Samples
from regraft.stores.folder import FolderEntry
from regraft.stores.place import Place
from regraft.stores.store import Entry
from regraft.tensors.fingerprints import canonical_json

FOLDER = "workers"
EVERY_S = 10.0  # between two reports of a worker: a small file each
SILENT_S = 6 * EVERY_S  # without a report: the worker is taken for dead
WORKING, ENDED = "working", "ended"
Advance = Callable[[int], None]


@final
@dataclass(frozen=True)
class WorkerReport:
    """A worker so far.

    rows      of the data set
    present   rows that the store had when the worker began; None where ids become known while inputs are read
    stored    rows of the whole entry at that time
    done      rows of the data set that are there, as far as this worker knows
    computed  rows, by this worker
    began     in seconds since 1970, by its clock; `seconds` since then
    share     "3/16"
    state     "working", "ended", or the error that has ended it
    silent_s  seconds since the report, by the clock of whoever reads it
    """

    name: str
    rows: int
    present: int | None
    stored: int
    done: int
    computed: int
    began: float
    seconds: float
    share: str
    state: str
    silent_s: float = 0.0

    @property
    def is_working(self) -> bool:
        """Whether it works now; one that was killed is silent."""
        return self.state == WORKING and self.silent_s < SILENT_S


@final
class Reporter(AbstractContextManager["Reporter"]):
    """Reports what a worker does: in the block every few seconds, and at its end.

    A build by one process that ends within seconds leaves no report.

    stored    rows that the entry has
    advance   moves the progress bar by so many rows
    computed  gives the rows that this worker has computed
    """

    def __init__(self, entry: Entry, samples: Samples, *, stored: int, share: Share, advance: Advance) -> None:
        self.place: Place | None = entry.place if isinstance(entry, FolderEntry) else None
        self.samples, self.stored, self.share = samples, stored, share
        self.done, self._has_begun = 0, False
        self.present: int | None = None
        self.computed: Callable[[], int] = lambda: 0
        self._advance, self._began, self._clock = advance, time.time(), time.monotonic()
        self._reported: float | None = None if share.count == 1 else -EVERY_S
        self.name = f"{platform.node() or 'worker'}-{os.getpid()}-{int(self._began * 1000):x}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._reported is not None:
            text = (str(error).strip() or type(error).__name__).splitlines()[0] if error is not None else ENDED
            self._report(text)

    def advance(self, rows: int) -> None:
        """So many rows are done, by whoever."""
        self._advance(rows)
        if not self._has_begun and self.samples.ids_known:
            self.present = rows  # a builder that knows all ids begins with the rows that are there
        self._has_begun = True
        self.done += rows
        now = time.monotonic() - self._clock
        if now - (self._reported or 0.0) >= EVERY_S:
            self._reported = now
            self._report(WORKING)

    def _report(self, state: str) -> None:
        """Write the file. One that cannot be written does not stop a build."""
        if self.place is None:
            return
        report = WorkerReport(
            self.name, len(self.samples), self.present, self.stored, self.done, self.computed(), self._began,
            time.monotonic() - self._clock, f"{self.share.number}/{self.share.count}", state,
        )  # fmt: skip
        with suppress(OSError):
            self.place.write(f"{FOLDER}/{self.name}.json", [canonical_json(asdict(report)).encode()])


def reports_in(place: Place) -> list[WorkerReport]:
    """The reports of an entry, in the order in which their workers began. Damaged ones are left out."""
    reports, known = list[WorkerReport](), {field.name for field in fields(WorkerReport)}
    for name in place.names(FOLDER):
        with suppress(OSError, ValueError, TypeError):
            facts = json.loads(place.read(f"{FOLDER}/{name}"))
            facts["silent_s"] = max(0.0, time.time() - place.changed(f"{FOLDER}/{name}"))
            reports.append(WorkerReport(**{key: value for key, value in facts.items() if key in known}))
    return sorted(reports, key=lambda report: report.began)
