"""Leases: one worker at a time, the dead give way, clocks do not matter."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from regraft.stores import leases as module
from regraft.stores import processes
from regraft.stores.leases import Leases, is_gone
from regraft.stores.places import LocalPlace, place_of

DEAD = json.dumps({"machine": processes.machine(), "pid": 2**22 + 1, "started": "1"}).encode()
ELSEWHERE = json.dumps({"machine": "another", "pid": 1, "started": "7", "token": "x", "beat": 0}).encode()


@pytest.fixture
def place(tmp_path):
    """A folder."""
    return LocalPlace(tmp_path)


def test_a_lease_is_held_by_one(place):
    """Until it is given back."""
    first, second = Leases(place), Leases(place)
    assert first.acquire("work")
    assert not second.acquire("work")
    assert first.living() == ["work"]
    first.release("work")
    assert second.acquire("work")
    second.release("work")


@pytest.mark.parametrize("url", ["memory://{}/p", "file://{}/p", "{}/p"])
def test_of_many_that_ask_at_once_one_gets_the_lease(tmp_path, url):
    """A free one, and one whose owner is dead. The file systems look whether a file is there, and write it then."""
    place = place_of(url.format(tmp_path))
    for name, held in [*((f"free-{number}", False) for number in range(8)), *((f"dead-{n}", True) for n in range(8))]:
        if held:
            place.create(f"leases/{name}.lock", DEAD)
        asking, together = [Leases(place) for _ in range(8)], threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            ask = lambda leases, name=name, together=together: (together.wait(), leases.acquire(name))[1]  # noqa: E731
            won = list(pool.map(ask, asking))
        assert sum(won) == 1
        for leases in asking:
            leases.release(name)


def test_a_system_that_ignores_the_condition_has_one_winner_of_those_that_wrote(monkeypatch, tmp_path):
    """An old fsspec system overwrites: the last writer finds its own content, the others do not."""
    place = place_of(f"memory://{tmp_path.name}/q")
    plain = type(place.system).pipe_file
    overwritten = []

    def careless(system, path, content, mode="overwrite"):
        plain(system, path, content)
        if not overwritten:
            overwritten.append(path)
            plain(system, path, ELSEWHERE)

    monkeypatch.setattr(type(place.system), "pipe_file", careless)
    assert not Leases(place).acquire("work")


def test_a_dead_process_of_this_machine_gives_way_at_once(place):
    """No waiting for a heartbeat that cannot come."""
    code = (
        "import sys; from pathlib import Path\n"
        "from regraft.stores.leases import Leases; from regraft.stores.places import LocalPlace\n"
        f"print(Leases(LocalPlace(Path({str(place.root)!r}))).acquire('work'), flush=True)\n"
        "sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert child.stdout.readline() == "True\n"
    leases = Leases(place)
    assert not leases.acquire("work")
    child.kill()
    child.communicate()

    assert leases.acquire("work")
    leases.release("work")


def test_another_machines_lease_is_dead_when_it_stops_beating(place):
    """Measured by our own steady clock, from when we first saw it."""
    place.create("leases/work.lock", ELSEWHERE)
    leases = Leases(place, stale_s=0.2)
    assert not leases.acquire("work")
    time.sleep(0.25)
    assert leases.acquire("work")
    leases.release("work")


def test_setting_the_clock_changes_nothing(place, monkeypatch):
    """A lease looks neither older nor younger."""
    place.create("leases/work.lock", ELSEWHERE)
    leases = Leases(place)
    for hours in (-24, 24):
        monkeypatch.setattr(time, "time", lambda hours=hours: 1e9 + hours * 3600)
        assert not leases.acquire("work")


def test_a_beating_lease_lives(place, monkeypatch):
    """However long the work takes: between two looks, each long after the other, it has beaten."""
    first, second = Leases(place, stale_s=0.2), Leases(place)
    first.acquire("work")
    now = time.monotonic()
    for look in range(3):
        monkeypatch.setattr(time, "monotonic", lambda look=look: now + look * 3600)
        assert not second.acquire("work")
        seen = place.read("leases/work.lock")
        while place.read("leases/work.lock") == seen:
            time.sleep(0.01)
    first.release("work")


def test_an_owner_that_was_taken_for_dead_does_not_fight(place):
    """It stops beating when somebody else's name is in the file."""
    first = Leases(place, stale_s=0.1)
    first.acquire("work")
    place.create("leases/work~1.lock", ELSEWHERE)
    while first._held:
        time.sleep(0.01)
    first.release("work")
    assert place.read("leases/work~1.lock") == ELSEWHERE


def test_a_lease_is_taken_turn_by_turn_and_given_back_whole(place):
    """However many owners have died."""
    for turn in ("", "~1", "~2"):
        place.create(f"leases/work{turn}.lock", DEAD)
    leases = Leases(place)
    assert leases.acquire("work")
    assert place.names("leases") == ["work.lock", "work~1.lock", "work~2.lock", "work~3.lock"]
    assert not Leases(place).acquire("work")
    assert leases.living() == ["work"]
    leases.release("work")
    assert place.names("leases") == []


def test_dead_leases_are_cleared_and_living_ones_stay(place):
    """And those of work that has been done, whoever held them."""
    place.create("leases/dead.lock", DEAD)
    place.create("leases/elsewhere.lock", ELSEWHERE)
    leases = Leases(place)
    for turn in ("", "~1"):
        place.create(f"leases/taken{turn}.lock", ELSEWHERE if turn else DEAD)
    assert leases.clear_dead() == ["dead"]
    assert place.names("leases") == ["elsewhere.lock", "taken.lock", "taken~1.lock"]  # its new owner keeps both
    leases.clear({"taken"})
    assert leases.living() == ["elsewhere"]
    leases.clear({"elsewhere"})
    assert place.names("leases") == []


def test_only_a_process_of_this_machine_can_be_known_dead():
    """A garbled lease is not known to be dead either: it will be found stale."""
    assert not is_gone(ELSEWHERE)
    assert not is_gone(b"")
    assert is_gone(json.dumps({"machine": processes.machine(), "pid": 2**22 + 1, "started": "1"}).encode())
    assert module.STALE_S > 4 * module.BEAT_S
