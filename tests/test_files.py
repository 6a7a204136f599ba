"""Files and folders are whole or not there."""

import pytest

from regraft.errors import SaveError
from regraft.files import sha256_of, whole_folder, write_whole


def test_a_failed_block_leaves_no_folder(tmp_path):
    """Ctrl-C in the middle too."""

    def stopped():
        with whole_folder(tmp_path / "run") as part:
            (part / "half").write_text("x")
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        stopped()

    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_any_work(tmp_path):
    """Nothing is computed in vain, nothing is lost."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("x")
    with (
        pytest.raises(SaveError, match=r"exists already; nothing was changed[\s\S]*--overwrite"),
        whole_folder(tmp_path / "run"),
    ):
        pytest.fail("the block ran")


def test_overwriting_replaces_the_whole_folder_only_at_the_end(tmp_path):
    """The old one stands until the new one is complete."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "old").write_text("x")
    with whole_folder(run, overwrite=True) as part:
        (part / "new").write_text("y")
        assert (run / "old").is_file()

    assert [path.name for path in run.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_failed_overwrite_keeps_the_old_folder(tmp_path):
    """Nothing lost."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "old").write_text("x")
    with pytest.raises(ValueError, match="broken"), whole_folder(run, overwrite=True):
        raise ValueError("broken")

    assert (run / "old").read_text() == "x"


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
