"""What lies beside a factory's file and is imported by it."""

import sys

import pytest

from regraft.jobs.neighbours import importable, neighbours_of


@pytest.fixture
def folder(tmp_path):
    """A factory's file with neighbours of every form."""
    files = {
        "net.py": "import json, blocks_a\nfrom parts_b import layer\ndef late():\n    import lazy_c\n",
        "blocks_a.py": "import deeper_d\n",
        "deeper_d.py": "import net\n",
        "lazy_c.py": "",
        "unused_e.py": "",
        "json.py": "raise RuntimeError('never run')\n",
        "parts_b/__init__.py": "",
        "parts_b/layer.py": "from . import sibling\nfrom .sub.leaf import x\n",
        "parts_b/sibling.py": "",
        "parts_b/sub/__init__.py": "",
        "parts_b/sub/leaf.py": "from ...parts_b import other\nx = 1\n",
        "parts_b/other.py": "",
        "parts_b/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_neighbours_are_followed_through_each_other(folder):
    """Packages, relative imports, imports inside functions; neither unused files nor Python's own names."""
    assert {name: str(file.relative_to(folder)) for name, file in neighbours_of(folder / "net.py").items()} == {
        "blocks_a": "blocks_a.py",
        "deeper_d": "deeper_d.py",
        "lazy_c": "lazy_c.py",
        "parts_b": "parts_b/__init__.py",
        "parts_b.layer": "parts_b/layer.py",
        "parts_b.other": "parts_b/other.py",
        "parts_b.sibling": "parts_b/sibling.py",
        "parts_b.sub": "parts_b/sub/__init__.py",
        "parts_b.sub.leaf": "parts_b/sub/leaf.py",
    }


@pytest.mark.parametrize("content", [b"def (", b"\0", b"import no_such_module"])
def test_a_file_that_does_not_run_has_no_neighbours(tmp_path, content):
    """Running it will say why."""
    (tmp_path / "net.py").write_bytes(content)
    assert neighbours_of(tmp_path / "net.py") == {}


def value_in(folder):
    """What a file of the folder gets from its neighbour."""
    with importable(folder / "net.py"):
        import neighbour_of_a_test

        return neighbour_of_a_test.value


def test_two_folders_have_their_own_neighbours(tmp_path):
    """Python would give the second the module of the first; and an edited one as it was."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text("import neighbour_of_a_test\n")
        (tmp_path / name / "neighbour_of_a_test.py").write_text(f"value = {name!r}\n")
    assert [value_in(tmp_path / name) for name in "abab"] == ["a", "b", "a", "b"]
    (tmp_path / "a" / "neighbour_of_a_test.py").write_text("value = 'edited'\n")
    assert value_in(tmp_path / "a") == "edited"
    assert str(tmp_path / "a") not in sys.path
    del sys.modules["neighbour_of_a_test"]


def test_a_neighbour_that_the_user_has_imported_already_stays_the_same_module(tmp_path, monkeypatch):
    """Its classes are those of the user's own program."""
    (tmp_path / "net.py").write_text("import neighbour_of_a_test\n")
    (tmp_path / "neighbour_of_a_test.py").write_text("value = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    import neighbour_of_a_test

    assert value_in(tmp_path) is neighbour_of_a_test.value
    del sys.modules["neighbour_of_a_test"]
