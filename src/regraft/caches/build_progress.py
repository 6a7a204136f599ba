"""How far all workers of a build are together: rows, throughput, the expected end, the cost so far."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from regraft.caches.maintenance import StoredEntry, list_entries, place_in
from regraft.caches.worker_reports import ENDED, WORKING, WorkerReport, reports_in
from regraft.foundation.wording import counted, one_line, seconds_text


@final
@dataclass(frozen=True)
class BuildProgress:
    """An entry whose workers have left reports.

    rows     of the data set that they compute; of several data sets the one that was begun last
    done     of these rows, in the store now
    workers  their reports, in the order in which they began
    """

    entry: StoredEntry
    rows: int
    done: int
    workers: tuple[WorkerReport, ...]

    @property
    def working(self) -> list[WorkerReport]:
        """The workers that compute now."""
        return [worker for worker in self.workers if worker.is_working]

    @property
    def rows_per_s(self) -> float:
        """Rows that all workers together compute in a second."""
        return sum(worker.computed / worker.seconds for worker in self.working if worker.seconds)

    @property
    def ends_in_s(self) -> float | None:
        """Seconds until all rows are there at this rate; None where nobody works."""
        rate = self.rows_per_s
        return (self.rows - self.done) / rate if rate else None

    @property
    def worker_hours(self) -> float:
        """Of all workers so far, those that have ended or died included."""
        return sum(worker.seconds for worker in self.workers) / 3600

    def lines(self, price: float | None = None) -> Iterator[str]:
        """For people.

        price  of a worker for an hour, in whatever currency
        """
        share = f"{100 * self.done / self.rows:.0f} %" if self.rows else "100 %"
        parts = [f"{self.done:,} of {self.rows:,} rows ({share})", f"{counted(len(self.working), 'worker')} at work"]
        if self.ends_in_s is not None and self.done < self.rows:
            parts += [f"{self.rows_per_s:,.1f} rows/s", f"done in {seconds_text(self.ends_in_s)}"]
        yield f"{self.entry.key}  {self.entry.state}: {', '.join(parts)}"
        yield f"  {self.entry.of}: {self.entry.cut}"
        cost = "" if price is None else f", {self.worker_hours * price:,.2f} so far at {price:g} an hour"
        yield f"  {self.worker_hours:.2f} worker hours{cost}"
        for worker in self.workers:
            state = "" if worker.state in (WORKING, ENDED) else f"; stopped: {one_line(worker.state)}"
            if worker.state == WORKING and not worker.is_working:
                state = f"; silent for {seconds_text(worker.silent_s)}"
            rows = counted(worker.computed, "row")
            yield f"  {worker.name} (share {worker.share}): {rows} in {seconds_text(worker.seconds)}{state}"


def progress_in(root: str | Path) -> list[BuildProgress]:
    """The builds of a feature folder whose workers have left reports, the newest first.

    Raises CacheError when the folder does not exist.
    """
    found = [(entry, reports_in(place_in(root, entry.key))) for entry in list_entries(root)]
    return [_progress(entry, reports) for entry, reports in found if reports]


def _progress(entry: StoredEntry, reports: Sequence[WorkerReport]) -> BuildProgress:
    rows = reports[-1].rows
    # An entry may hold rows of other data sets, too: what this one had at first, and what came since
    first = next(report for report in reports if report.rows == rows)
    done = max(report.done for report in reports if report.rows == rows)
    if first.present is not None:
        done = max(done, first.present + entry.rows - first.stored)
    return BuildProgress(entry, rows, min(rows, done), tuple(reports))
