"""Damaged images are named all at once, or skipped with a note."""

import pytest

from regraft.contracts.preparation import Preparation
from regraft.datasets.class_folder import open_class_folder
from regraft.errors import DataError
from regraft.inputs import InputContract

CONTRACT = Preparation(InputContract((4, 4)))


@pytest.fixture
def damaged_folder(image_folder):
    """Two of six images are damaged."""
    for name in ("cat/1.png", "dog/2.png"):
        (image_folder / name).write_bytes(b"damaged")
    return image_folder


def test_all_unreadable_files_are_named_at_once(damaged_folder):
    """Mending them one run at a time would waste hours."""
    data = open_class_folder(damaged_folder, CONTRACT)
    with pytest.raises(
        DataError, match=r"2 of 6 files cannot be read[\s\S]*cat/1.png[\s\S]*dog/2.png[\s\S]*skip_unreadable=True"
    ):
        data[1]


def test_skipping_leaves_them_out_with_a_note(damaged_folder):
    """Counted and named, for the report."""
    data = open_class_folder(damaged_folder, CONTRACT, skip_unreadable=True)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.ids == ("cat/0.png", "cat/2.png", "dog/0.png", "dog/1.png")
    assert any(note.startswith("2 unreadable images skipped: ") and "cat/1.png" in note for note in data.notes)


def test_a_class_that_only_had_damaged_images_is_refused(image_folder):
    """Skipping must not make a class vanish."""
    for path in (image_folder / "dog").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="no readable image of 1 of 2 classes: dog"):
        open_class_folder(image_folder, CONTRACT, skip_unreadable=True)


def test_content_is_told_by_the_files_bytes_and_the_contract(image_folder):
    """Renaming changes nothing; an edited file and another size do."""
    plain = open_class_folder(image_folder, CONTRACT).content_ids()
    (image_folder / "cat/0.png").rename(image_folder / "cat/0b.png")
    (image_folder / "dog/2.png").write_bytes((image_folder / "cat/1.png").read_bytes())

    again = open_class_folder(image_folder, CONTRACT).content_ids()

    assert [one == other for one, other in zip(plain, again, strict=True)] == [True] * 5 + [False]
    assert again[5] == again[1]
    assert not set(again) & set(open_class_folder(image_folder, Preparation(InputContract((5, 4)))).content_ids())


def test_a_vanished_file_is_named(image_folder):
    """Before anything is computed."""
    data = open_class_folder(image_folder, CONTRACT)
    (image_folder / "cat/1.png").unlink()
    with pytest.raises(DataError, match=r"cat/1.png cannot be read: No such file"):
        data.content_ids()
