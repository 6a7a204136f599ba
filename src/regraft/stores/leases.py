"""Leases: which builder does which work, so that several share it. No clocks of two machines are compared."""

import json
import os
import secrets
import threading
import time
from contextlib import suppress
from typing import final

from regraft.stores.place import Place
from regraft.stores.processes import machine, started

BEAT_S = 5.0
STALE_S = 30.0


@final
class Leases:
    """The leases of one folder of a place, held by this process.

    A lease is a file with its owner and a count that the owner raises every BEAT_S seconds. A lease whose file has not
    changed for `stale_s` seconds *by the watcher's own steady clock* is dead; one whose owner is a process of this
    machine that no longer runs is dead at once. Setting any clock changes nothing.
    """

    def __init__(self, place: Place, folder: str = "leases", *, stale_s: float = STALE_S) -> None:
        self.place, self.folder, self.stale_s = place, folder, stale_s
        self.owner = {"machine": machine(), "pid": os.getpid(), "started": started(os.getpid())}
        self.owner["token"] = secrets.token_hex(8)
        self._held: dict[str, int] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, name: str) -> bool:
        """Whether this process holds the lease now; dead owners' leases are taken over."""
        path = self._path(name)
        with self._lock:
            if name in self._held:
                return True
            if not self.place.create(path, self._text(0)) and not self._take_over(path):
                return False
            self._held[name] = 0
        self._keep_beating()
        return True

    def _take_over(self, path: str) -> bool:
        """Whether this process holds the lease now that it was taken from a dead owner: of several takers one."""
        try:
            content = self.place.read(path)
        except FileNotFoundError:  # it was given back just now
            return self.place.create(path, self._text(0))
        return (
            self._is_dead(path, content)
            and self.place.remove_if(path, content)
            and self.place.create(path, self._text(0))
        )

    def release(self, name: str) -> None:
        """Give the lease back."""
        with self._lock:
            if self._held.pop(name, None) is not None:
                with suppress(OSError):
                    self.place.remove(self._path(name))
            if not self._held:
                self._stop.set()

    def living(self) -> list[str]:
        """Names that are leased by somebody who is not known to be dead."""
        names = [name.removesuffix(".lock") for name in self.place.names(self.folder)]
        living = []
        for name in names:
            with suppress(FileNotFoundError):
                path = self._path(name)
                living += [] if self._is_dead(path, self.place.read(path)) else [name]
        return living

    def _is_dead(self, path: str, content: bytes) -> bool:
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
                for name in list(self._held):
                    self._beat_one(name)

    def _beat_one(self, name: str) -> None:
        path = self._path(name)
        with suppress(OSError, ValueError):  # a full disk must not end the work: at worst it is done twice
            if json.loads(self.place.read(path)).get("token") != self.owner["token"]:
                del self._held[name]  # taken over while this process slept
                return
            self._held[name] += 1
            self.place.write(path, [self._text(self._held[name])])

    def _text(self, beat: int) -> bytes:
        return json.dumps({**self.owner, "beat": beat}).encode()

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}.lock"


def is_gone(content: bytes) -> bool:
    """Whether a lease's owner is a process of this machine that no longer runs; False when that cannot be told."""
    try:
        owner = json.loads(content)
        if owner["machine"] != machine():
            return False
        return bool(started(int(owner["pid"])) != owner["started"])
    except (ValueError, KeyError, TypeError):
        return False
