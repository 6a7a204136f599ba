"""The few verbs of a folder, here and remote: the same answers."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from regraft.errors import CacheError
from regraft.stores.places import LocalPlace, place_of


@pytest.fixture(params=["local", "memory", "file"])
def place(request, tmp_path):
    """An empty place of each kind."""
    return place_of(
        {
            "local": tmp_path / "p",
            "memory": f"memory://{tmp_path.name}-{request.param}",
            "file": f"file://{tmp_path}/p",
        }[request.param]
    )


def ranges_of(place, name, ranges):
    """The bytes of these ranges; fewer where the file ends before."""
    content = bytearray(sum(last - first for first, last in ranges))
    return bytes(content[: place.opened(name).read_into(memoryview(content), ranges)])


def test_what_is_written_is_read(place):
    """In pieces, whole, and by ranges that may reach beyond the end."""
    place.write("a/b.bin", [b"0123", memoryview(b"456789")])
    assert place.read("a/b.bin") == b"0123456789"
    assert place.size("a/b.bin") == 10
    assert ranges_of(place, "a/b.bin", [(2, 5)]) == b"234"
    assert ranges_of(place, "a/b.bin", [(0, 1), (3, 5), (8, 10)]) == b"03489"
    assert ranges_of(place, "a/b.bin", [(8, 12)]) == b"89"


def test_writing_again_replaces(place):
    """What is read afterwards is of the new file."""
    place.write("a", [b"old"])
    assert ranges_of(place, "a", [(0, 3)]) == b"old"
    place.write("a", [b"newer"])
    assert ranges_of(place, "a", [(0, 5)]) == b"newer"


def test_names_are_those_of_whole_files(place):
    """Hidden files are half-written ones."""
    assert place.names() == []
    place.write("f/b", [b""])
    place.write("f/a", [b""])
    place.write("f/.half", [b""])
    assert place.names("f") == ["a", "b"]
    assert place.names() == ["f"]


def test_of_two_creators_one_wins(place):
    """The second one is told."""
    assert place.create("f/lock", b"first")
    assert not place.create("f/lock", b"second")
    assert place.read("f/lock") == b"first"


def test_a_file_is_removed(place):
    """And one that is not there is no error."""
    place.create("f/lock", b"first")
    place.remove_file("f/lock")
    place.remove_file("f/lock")
    assert place.names("f") == []


def test_a_listing_tells_sizes_and_times(place):
    """Nobody has to ask for each file."""
    before = time.time()
    place.write("f/a", [b"12345"])
    place.write("f/.half", [b""])
    ((name, facts),) = place.files("f").items()
    assert (name, facts.size) == ("a", 5)
    assert abs(facts.changed - before) < 600
    assert place.files("nowhere") == {}


def test_places_whose_files_one_of_several_machines_creates(place):
    """A folder, and what this process alone sees."""
    assert place.excludes()


def test_a_file_is_created_with_its_content(tmp_path, monkeypatch):
    """A process that is killed between the two would leave an empty lease, which nobody can tell the owner of."""
    seen = []
    link = os.link
    monkeypatch.setattr(os, "link", lambda old, new: (seen.append(Path(old).read_bytes()), link(old, new))[1])
    place = LocalPlace(tmp_path)
    assert place.create("f/lock", b"mine")
    assert not place.create("f/lock", b"yours")
    assert seen == [b"mine", b"yours"]
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["lock"]


def test_a_system_without_links_creates_in_two_steps(tmp_path, monkeypatch):
    """FAT, for one."""

    def refuse(old, new):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    place = LocalPlace(tmp_path)
    assert place.create("lock", b"mine")
    assert not place.create("lock", b"yours")
    assert place.read("lock") == b"mine"


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    """Of a process of this machine that no longer runs; of a living one it stays."""
    place = LocalPlace(tmp_path)

    def killed():
        yield b"half"
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        place.write("parts/shard", killed())
    os.waitpid(pid, 0)
    mine = place._temporary(tmp_path / "parts" / "mine")
    mine.write_bytes(b"")
    assert len(list((tmp_path / "parts").iterdir())) == 2

    place.sweep("parts")

    assert list((tmp_path / "parts").iterdir()) == [mine]


def test_removing_takes_all_below(place):
    """And what is not there is no error."""
    place.write("f/g/a", [b"x"])
    place.remove("f")
    place.remove("f")
    assert place.names() == []
    with pytest.raises(FileNotFoundError, match="a"):
        place.read("f/g/a")


def test_a_failed_write_leaves_nothing(tmp_path):
    """No half file, no hidden file."""

    def broken():
        yield b"half"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        LocalPlace(tmp_path).write("a", broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_files_are_as_readable_as_the_user_wishes(tmp_path):
    """A cache is shared by a group: the umask decides, not a temporary file's 0600."""
    LocalPlace(tmp_path).write("a", [b"x"])
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_unknown_url_is_refused():
    """With what fsspec says."""
    with pytest.raises(CacheError, match=r"fsspec cannot open nowhere://x"):
        place_of("nowhere://x")
