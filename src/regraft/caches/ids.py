"""Tables of row ids: where each id's row lies, and which ids a pass over the data has seen."""

from typing import final

import numpy as np

from regraft.tensors.fingerprints import ID_BYTES


@final
class Index:
    """Positions by id: a sorted table, 32 bytes a row.

    Rows are sorted by the first half of their id, as a number: ten times quicker than by its bytes. Ids are hashes, so
    halves are equal where ids are; of 10⁹ different ids two have the same half with a probability of 3 %, and are told
    apart by the other half.
    """

    def __init__(self, ids: np.ndarray) -> None:
        halves = np.ascontiguousarray(ids).view("<u8").reshape(-1, 2)
        self._order = np.argsort(halves[:, 0], kind="stable")
        self._sorted, self._rest = halves[self._order, 0], halves[self._order, 1]

    def __len__(self) -> int:
        return len(self._sorted)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The position of each id (count,) int64; -1 where there is none. Of equal ids the first one counts."""
        wanted = np.ascontiguousarray(ids).view("<u8").reshape(-1, 2)
        found = np.full(len(wanted), -1, np.int64)
        if not len(self._sorted):
            return found
        order = np.argsort(wanted[:, 0], kind="stable")  # neighbours are looked for in the same pages of memory
        at = np.searchsorted(self._sorted, wanted[order, 0])
        while len(order):
            is_there = at < len(self._sorted)
            order, at = order[is_there], at[is_there]
            is_half = self._sorted[at] == wanted[order, 0]
            order, at = order[is_half], at[is_half]
            is_whole = self._rest[at] == wanted[order, 1]
            found[order[is_whole]] = self._order[at[is_whole]]
            order, at = order[~is_whole], at[~is_whole] + 1
        return found


@final
class SeenIds:
    """The ids of the rows seen so far, in 16 bytes an id; a set of Python's takes 130.

    They lie in sorted runs, each at least twice as long as the next, as a log-structured merge tree keeps its files
    (O'Neil and others 1996): n ids are merged log n times.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def first(self, ids: np.ndarray) -> np.ndarray:
        """Which of these ids (count, 16) uint8 are new: (count,) bool, of equal ones the first. Afterwards none is."""
        flat = np.ascontiguousarray(ids).view(f"V{ID_BYTES}").reshape(-1)
        order = np.argsort(flat, kind="stable")
        in_order = flat[order]
        is_new = np.ones(len(flat), bool)
        is_new[1:] = in_order[1:] != in_order[:-1]
        for run in self._runs:
            places = np.searchsorted(run, in_order).clip(max=len(run) - 1)
            is_new &= run[places] != in_order
        self._add(in_order[is_new])
        result = np.empty(len(flat), bool)
        result[order] = is_new
        return result

    def _add(self, run: np.ndarray) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
