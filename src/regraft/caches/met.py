"""Which ids a pass over the data has met, in few bytes."""

from typing import final

import numpy as np

from regraft.tensors.fingerprints import ID_BYTES


@final
class Met:
    """The ids met so far: 16 bytes an id, where a set of Python's takes 130.

    They lie in sorted runs, each at least twice as long as the next, as a log-structured merge tree keeps its files
    (O'Neil and others 1996): n ids are merged log n times.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def first(self, ids: np.ndarray) -> np.ndarray:
        """Which of these ids (count, 16) uint8 are met for the first time; (count,) bool. From now on all are known."""
        flat = np.ascontiguousarray(ids).view(f"V{ID_BYTES}").reshape(-1)
        order = np.argsort(flat, kind="stable")
        in_order = flat[order]
        is_new = np.ones(len(flat), bool)
        is_new[1:] = in_order[1:] != in_order[:-1]
        for run in self._runs:
            at = np.searchsorted(run, in_order).clip(max=len(run) - 1)
            is_new &= run[at] != in_order
        self._add(in_order[is_new])
        result = np.empty(len(flat), bool)
        result[order] = is_new
        return result

    def _add(self, run: np.ndarray) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
