"""A folder of fsspec: neighbouring ranges share a request."""

import pytest

from regraft.stores.places import place_of
from regraft.stores.remote_place import GAP_BYTES, RemotePlace


def test_near_ranges_share_a_request_and_far_ones_do_not(tmp_path, monkeypatch):
    """Reading a little in vain is quicker than another request."""
    place = place_of(f"memory://{tmp_path.name}/ranges")
    assert isinstance(place, RemotePlace)
    place.write("a", [bytes(range(10)), bytes(3 * GAP_BYTES), b"end"])
    asked, plain = [], place.system.cat_ranges
    monkeypatch.setattr(
        place.system,
        "cat_ranges",
        lambda paths, starts, ends, **options: (asked.extend(starts), plain(paths, starts, ends, **options))[1],
    )
    end = place.size("a")
    buffer = bytearray(6)
    assert place.opened("a").read_into(memoryview(buffer), [(1, 2), (4, 6), (end - 3, end)]) == 6
    assert (bytes(buffer), asked) == (b"\x01\x04\x05end", [1, end - 3])


@pytest.mark.parametrize("name", ["a", ""])
def test_a_remote_place_is_named_by_its_url(name):
    """As the user wrote it."""
    assert place_of("memory://bucket/f/").where(name) == f"memory://bucket/f{'/' * bool(name)}{name}"


def test_a_file_is_created_once(tmp_path):
    """The system's own condition decides: the second writer changes nothing."""
    place = place_of(f"memory://{tmp_path.name}/once")

    assert place.create("lease", b"first")
    assert not place.create("lease", b"second")
    assert place.read("lease") == b"first"


def test_of_a_system_that_ignores_the_condition_the_last_writer_wins(tmp_path, monkeypatch):
    """What is read afterwards decides: the first one must not believe that it holds the lease."""
    place = place_of(f"memory://{tmp_path.name}/race")
    plain = place.system.pipe_file

    def overtaken(path, content, mode="overwrite"):
        plain(path, content)
        plain(path, b"another's")

    monkeypatch.setattr(place.system, "pipe_file", overtaken)

    assert not place.create("lease", b"mine")
