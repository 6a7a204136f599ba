"""The completion scripts of shells."""

import subprocess
import sys
from argparse import ArgumentParser

import pytest

from regraft.cli import completion
from regraft.errors import JobError
from typed import typed


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_script_of_a_shell_knows_commands_options_and_files(shell):
    """Those of the present command line."""
    done = typed("completion", shell)
    assert done.code == 0
    assert all(word in done.output for word in ("predict", "skip-unreadable", "cache"))


def test_bash_takes_the_script(tmp_path):
    """It completes a command by its beginning, and the name of a file where a path is asked for."""
    (tmp_path / "script").write_text(typed("completion", "bash").output)
    (tmp_path / "job.toml").touch()
    code = 'source ./script; COMP_WORDS=({}); COMP_CWORD={}; _shtab_regraft; echo "${{COMPREPLY[@]}}"'
    for words, place, answer in (("regraft pre", 1, "predict"), ("regraft reuse jo", 2, "job.toml")):
        command = ["bash", "-c", code.format(words, place)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [answer]


def test_without_the_library_the_command_says_what_to_install(monkeypatch):
    """An extra of the package."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(JobError, match=r"pip install 'regraft\[completion\]'"):
        completion.script_for(ArgumentParser("regraft"), "bash")
