"""Files and folders are whole or not there."""

import json
import os
from pathlib import Path

import pytest

from regraft.errors import SaveError
from regraft.foundation.files import all_entries, refuse_existing, sha256_of, whole_folder, write_whole


def test_a_failed_block_leaves_no_folder(tmp_path):
    """Ctrl-C in the middle too."""

    def stopped():
        with whole_folder(tmp_path / "run") as part:
            (part / "half").write_text("x")
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        stopped()

    assert list(tmp_path.iterdir()) == []


def nothing(folder):
    """Every file in it is the writer's own."""
    return []


@pytest.fixture
def old_run(tmp_path):
    """A folder with a file."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("x")
    return tmp_path / "run"


def test_an_existing_folder_is_refused_before_any_work(old_run):
    """Nothing is computed in vain, nothing is lost."""
    with (
        pytest.raises(SaveError, match=r"exists already; nothing was changed[\s\S]*Pass overwrite=True to replace it"),
        whole_folder(old_run),
    ):
        pytest.fail("the block ran")


def test_overwriting_replaces_the_whole_folder_only_at_the_end(old_run):
    """The old one stands until the new one is complete."""
    with whole_folder(old_run, overwrite=True, foreign=nothing) as part:
        (part / "new").write_text("y")
        assert (old_run / "old").is_file()

    assert [path.name for path in old_run.iterdir()] == ["new"]
    assert [path.name for path in old_run.parent.iterdir()] == ["run"]


def test_a_failed_overwrite_keeps_the_old_folder(old_run):
    """Nothing lost."""
    with pytest.raises(ValueError, match="broken"), whole_folder(old_run, overwrite=True, foreign=nothing):
        raise ValueError("broken")

    assert (old_run / "old").read_text() == "x"


def test_a_folder_with_foreign_files_is_never_replaced(old_run):
    """Neither by a writer that does not know its own files, nor where one of them is not the writer's."""
    (old_run / "thesis.tex").write_text("precious")
    for options, names in (
        ({}, "old, thesis.tex"),
        ({"foreign": lambda folder: [name for name in all_entries(folder) if name != "old"]}, "thesis.tex"),
    ):
        with (
            pytest.raises(SaveError, match=f"did not write there: {names}\\."),
            whole_folder(old_run, overwrite=True, **options),
        ):
            pytest.fail("the block ran")
    assert (old_run / "thesis.tex").read_text() == "precious"


def test_many_foreign_files_are_counted(old_run):
    """A folder of photographs fills no screen."""
    for number in range(20):
        (old_run / f"{number:02}.jpg").touch()
    with pytest.raises(SaveError, match=r"00.jpg, 01.jpg, 02.jpg, 03.jpg, 04.jpg, 05.jpg, … \(15 more\)"):
        refuse_existing(old_run, overwrite=True)


def test_a_folder_that_holds_what_must_stay_is_never_replaced(old_run, monkeypatch):
    """The folder itself, an ancestor, a link to it, and the working directory, though all files are the writer's."""
    keep = {"the data": old_run / "photos"}
    (old_run / "photos").mkdir()
    (old_run.parent / "link").symlink_to(old_run)
    for folder in (old_run, old_run.parent, old_run.parent / "link", old_run / "photos" / ".."):
        with pytest.raises(SaveError, match=r"holds the data: .*photos"):
            refuse_existing(folder, overwrite=True, foreign=nothing, keep=keep)
    (old_run.parent / "data").symlink_to(old_run / "photos")  # what is read lies in the folder, whatever its path says
    with pytest.raises(SaveError, match="holds the data"):
        refuse_existing(old_run, overwrite=True, foreign=nothing, keep={"the data": old_run.parent / "data"})
    monkeypatch.chdir(old_run)
    for folder in (Path(), Path(".."), old_run):
        with pytest.raises(SaveError, match="holds the working directory"):
            refuse_existing(folder, overwrite=True, foreign=nothing)
    assert (old_run / "old").is_file()


def test_what_appears_during_the_work_is_not_lost(tmp_path):
    """Training takes hours: another run may end first, the user may put a file there. Both results stay."""
    run = tmp_path / "run"

    def overtaken():
        with whole_folder(run) as part:
            (part / "new").write_text("y")
            run.mkdir()
            (run / "other").write_text("x")

    with pytest.raises(SaveError, match=r"exists already[\s\S]*The new folder was kept as"):
        overtaken()
    assert (run / "other").read_text() == "x"
    (kept,) = [path for path in tmp_path.iterdir() if path != run]
    assert (kept / "new").read_text() == "y"
    assert str(kept.name).startswith("run.new-")


def test_a_link_to_an_old_folder_is_replaced_and_the_folder_stays(old_run):
    """Only the link is the path's own."""
    link = old_run.parent / "latest"
    link.symlink_to(old_run)
    with whole_folder(link, overwrite=True, foreign=nothing) as part:
        (part / "new").touch()
    assert [path.name for path in link.iterdir()] == ["new"]
    assert (old_run / "old").is_file()
    assert sorted(path.name for path in old_run.parent.iterdir()) == ["latest", "run"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_whole_folder_is_as_open_as_the_umask_says(tmp_path, mask):
    """Colleagues may read it where the user's other folders may be read, and not elsewhere."""
    before = os.umask(mask)
    try:
        with whole_folder(tmp_path / "run"):
            pass
        (tmp_path / "plain").mkdir()
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_text_is_written_in_utf8_whatever_the_locale_and_the_name(tmp_path):
    """A lone surrogate, from a file name of another system, becomes the escape that JSON has for it."""
    write_whole(tmp_path / "a.json", '"層 \udcff"')
    assert (tmp_path / "a.json").read_bytes() == '"層 '.encode() + b'\\udcff"'
    assert json.loads((tmp_path / "a.json").read_bytes()) == "層 \udcff"


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    """Even with overwrite."""
    (tmp_path / "run").write_text("precious")
    with pytest.raises(SaveError, match="is a file; expected a folder"), whole_folder(tmp_path / "run", overwrite=True):
        pytest.fail("the block ran")


def test_writing_whole_replaces_and_leaves_nothing_beside(tmp_path):
    """One file, the new content."""
    write_whole(tmp_path / "a.json", "old")
    write_whole(tmp_path / "a.json", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"new")]


def test_the_hash_is_sha256(tmp_path):
    """Of the empty file: a published constant."""
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_written_file_is_as_readable_as_the_umask_says(tmp_path):
    """Caches and runs are shared by a group."""
    (tmp_path / "plain").write_text("x")
    write_whole(tmp_path / "whole", "x")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode
