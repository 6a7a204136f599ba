"""Leases: which builder does which work, so that several share it. No clocks of two machines are compared."""

import json
import os
import secrets
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from itertools import count
from typing import final

from regraft.stores.place import Place
from regraft.stores.processes import machine, started

BEAT_S = 5.0
STALE_S = 30.0


@final
class Leases:
    """The leases of one folder of a place, held by this process.

    A lease is a file that is created exclusively, with its owner and a count that the owner raises every BEAT_S
    seconds. A lease whose file has not changed for `stale_s` seconds *by the watcher's own steady clock* is dead; one
    whose owner is a process of this machine that no longer runs is dead at once. Setting any clock changes nothing.

    A dead lease is not removed but followed: whoever takes it creates the file of the next turn, so that again one of
    several wins, without a lock and without a rename.
    """

    def __init__(self, place: Place, folder: str = "leases", *, stale_s: float = STALE_S) -> None:
        self.place, self.folder, self.stale_s = place, folder, stale_s
        self.owner = {"machine": machine(), "pid": os.getpid(), "started": started(os.getpid())}
        self.owner["token"] = secrets.token_hex(8)
        self._held: dict[str, int] = {}  # the turn of each lease
        self._beats = 0
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, name: str) -> bool:
        """Whether this process holds the lease now; dead owners' leases are taken over."""
        with self._lock:
            if name in self._held:
                return True
            for turn in count():
                if self.place.create(self._path(name, turn), self._text()):
                    break
                if not self._is_dead(self._path(name, turn)):
                    return False
            self._held[name] = turn
        self._keep_beating()
        return True

    def release(self, name: str) -> None:
        """Give the lease back, the first turn first: of later ones nobody asks before it is there again."""
        with self._lock:
            for turn in range(self._held.pop(name, -1) + 1):
                with suppress(OSError):
                    self.place.remove_file(self._path(name, turn))
            if not self._held:
                self._stop.set()

    def living(self) -> list[str]:
        """Names that are leased by somebody who is not known to be dead."""
        files = self.place.names(self.folder)
        return sorted({_name_of(file) for file in files if not self._is_dead(f"{self.folder}/{file}")})

    def clear(self, names: Collection[str]) -> None:
        """Remove the files of these leases: what they were for has been done."""
        for file in self.place.names(self.folder):
            if _name_of(file) in names:
                self.place.remove_file(f"{self.folder}/{file}")

    def clear_dead(self) -> list[str]:
        """Remove the files of all leases that are known to be dead, and return the names of the leases.

        Each is taken over first: a file that was removed from under a new owner would give the lease a second one.
        """
        living = set(self.living())
        names = sorted({_name_of(file) for file in self.place.names(self.folder)} - living - self._held.keys())
        dead = [name for name in names if self.acquire(name)]
        for name in dead:
            self.release(name)
        return dead

    def _is_dead(self, path: str) -> bool:
        """Whether the lease's owner is gone; False for a lease that was given back just now."""
        try:
            content = self.place.read(path)
        except FileNotFoundError:
            return False
        now = time.monotonic()
        seen, since = self._seen.get(path, (b"", now))
        if seen != content:
            self._seen[path] = (content, now)
            since = now
        return is_gone(content) or now - since > self.stale_s

    def _keep_beating(self) -> None:
        if self._thread is None or not self._thread.is_alive() or self._stop.is_set():
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._beat, args=(self._stop,), name="regraft-lease", daemon=True)
            self._thread.start()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(min(BEAT_S, self.stale_s / 4)):
            with self._lock:
                self._beats += 1
                for name, turn in list(self._held.items()):
                    with suppress(OSError):  # a full disk must not end the work: at worst it is done twice
                        self._beat_one(name, turn)

    def _beat_one(self, name: str, turn: int) -> None:
        try:
            self.place.read(self._path(name, turn + 1))
        except FileNotFoundError:
            self.place.write(self._path(name, turn), [self._text()])
        else:
            del self._held[name]  # taken over while this process slept

    def _text(self) -> bytes:
        return json.dumps({**self.owner, "beat": self._beats}).encode()

    def _path(self, name: str, turn: int) -> str:
        return f"{self.folder}/{name}{f'~{turn}' if turn else ''}.lock"


def _name_of(file: str) -> str:
    """The lease that a file belongs to."""
    return file.removesuffix(".lock").partition("~")[0]


def is_gone(content: bytes) -> bool:
    """Whether a lease's owner is a process of this machine that no longer runs; False when that cannot be told."""
    try:
        owner = json.loads(content)
        if owner["machine"] != machine():
            return False
        return bool(started(int(owner["pid"])) != owner["started"])
    except (ValueError, KeyError, TypeError):
        return False
