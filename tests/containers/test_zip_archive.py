"""ZIP archives: members as spans, and what is refused."""

import zipfile
from struct import pack

import pytest

from regraft.containers.zip_archive import ZipArchive, may_hold
from regraft.errors import CheckpointError


def written(folder, members, compression=zipfile.ZIP_STORED):
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_come_back(tmp_path, compression):
    """Stored and deflated, empty ones too."""
    members = {"a/b": bytes(range(256)) * 40, "empty": b"", "ü": b"x"}
    archive = ZipArchive(written(tmp_path, members, compression))

    assert {name: bytes(archive.read(member)) for name, member in archive.members.items()} == members
    begins = archive.beginnings(archive.members.values(), 10)
    assert all(members[name].startswith(begin[:5]) and len(begin) <= 10 for name, begin in begins.items())


def test_large_archives_have_wide_numbers(tmp_path, monkeypatch):
    """ZIP64: the count of more than 65,535 members stands in a record of its own. Written here for three members."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = written(tmp_path, {str(number): b"" for number in range(3)})
    content = path.read_bytes()
    path.write_bytes(content[:-14] + b"\xff" * 4 + content[-10:])  # the short record's counts, as of a large archive

    assert list(ZipArchive(path).members) == ["0", "1", "2"]


def test_a_quick_look_tells_what_an_archive_cannot_hold(tmp_path):
    """All of the names must be there; what is no archive holds none."""
    path = written(tmp_path, {"config.json": b"", "weights": b""})
    (tmp_path / "text").write_bytes(b"config.json")

    assert may_hold(path, ["config.json", "weights"])
    assert not may_hold(path, ["config.json", "model"])
    assert not may_hold(tmp_path / "text", ["config.json"])


def test_a_member_with_wide_sizes_is_read(tmp_path):
    """As torch writes storages: ZIP64 fields for each."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("big", "w", force_zip64=True) as file:
        file.write(b"content")

    archive = ZipArchive(path)

    assert bytes(archive.read(archive.members["big"])) == b"content"


def test_a_bomb_is_refused_by_its_claim(tmp_path):
    """More than deflate can reach is a lie."""
    path = written(tmp_path, {"bomb": bytes(10_000)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes().replace(pack("<I", 10_000), pack("<I", 1 << 31))
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=r"bomb claims 2147483648 bytes from \d+ stored ones. Refused"):
        ZipArchive(path)


def test_a_member_that_inflates_to_more_than_announced_is_cut_and_refused(tmp_path):
    """Never more memory than the directory says."""
    path = written(tmp_path, {"a": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(pack("<I", 100_000), pack("<I", 10)))
    archive = ZipArchive(path)

    with pytest.raises(CheckpointError, match="checksum of a is wrong"):
        archive.read(archive.members["a"])


def test_a_changed_byte_is_noticed(tmp_path):
    """By the member's checksum."""
    path = written(tmp_path, {"a": b"content"})
    path.write_bytes(path.read_bytes().replace(b"content", b"cOntent"))
    archive = ZipArchive(path)

    with pytest.raises(CheckpointError, match="checksum of a is wrong"):
        archive.read(archive.members["a"])


def test_a_name_that_comes_twice_is_refused(tmp_path):
    """Readers would differ on which one counts."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", "2")

    with pytest.raises(CheckpointError, match="'a' is in the archive twice"):
        ZipArchive(path)


@pytest.mark.parametrize(("old", "new"), [(b"PK\x05\x06", b"PK\x05\x07"), (b"PK\x01\x02", b"PK\x01\x03")])
def test_a_damaged_directory_is_refused(tmp_path, old, new):
    """With what to do."""
    path = written(tmp_path, {"a": b"1"})
    path.write_bytes(path.read_bytes().replace(old, new))

    with pytest.raises(CheckpointError, match=r"[Dd]ownload (it|the file) again"):
        ZipArchive(path)


def test_other_compressions_are_refused(tmp_path):
    """Only stored and deflated are read."""
    with pytest.raises(CheckpointError, match="directory is damaged"):
        ZipArchive(written(tmp_path, {"a": b"1" * 100}, zipfile.ZIP_BZIP2))
