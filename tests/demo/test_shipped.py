"""The files that ship with the package."""

from importlib import resources
from pathlib import Path

from regraft.demo.shipped import OF_NETWORK, copy_network, copy_photos, foreign_photos


def test_each_shipped_file_has_its_license():
    """SOURCES.md names the photographs and the checkpoint; the package data hold nothing else."""
    files = resources.files("regraft.demo").joinpath("files")
    text = files.joinpath("SOURCES.md").read_text()
    assert "Creative Commons Attribution 4.0" in text
    assert "Apache License 2.0" in text
    assert sorted(entry.name for entry in files.iterdir()) == ["SOURCES.md", "mobilenet_v1_025", "photos"]
    photos = [photo for part in ("train", "test") for photo in Path(str(files / "photos" / part)).rglob("*.jpg")]
    assert len(photos) == 300
    assert sum(photo.stat().st_size for photo in photos) < 1_000_000


def test_the_network_is_copied_with_its_license_into_a_folder_that_exists(tmp_path):
    """Beside what lies there."""
    (tmp_path / "mine.txt").touch()
    copy_network(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*OF_NETWORK, "mine.txt"])


def test_photographs_of_others_are_named(tmp_path):
    """Those that do not ship with the package."""
    copy_photos(tmp_path)
    assert foreign_photos(tmp_path) == []
    (tmp_path / "photos/test/bike/mine.jpg").touch()
    assert foreign_photos(tmp_path) == ["photos/test/bike/mine.jpg"]
