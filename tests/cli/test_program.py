"""The command line as a whole: errors, exit codes, closed outputs."""

import os
import subprocess
import sys

import numpy as np
import pytest

import forked
from typed import typed


@pytest.fixture
def theirs(tmp_path):
    """A small checkpoint."""
    np.savez(tmp_path / "theirs.npz", **{"dnn/0/kernel": np.ones((2, 3), np.float32), "dnn/0/bias": np.zeros(3)})
    return tmp_path / "theirs.npz"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["show", "none.npz"], 1, "CheckpointError: The file none.npz does not exist. Looked in "),
        (["reuse", "none.toml"], 1, "JobError: The job none.toml cannot be read"),
        (["predict", "none", "a.png"], 1, "SaveError: none is not a saved model"),
        (["plan", "x", "--model", "net"], 1, "JobError: 'net' does not name a factory"),
        (["plan", "x", "--model", "a:b", "--model-args", "[1]"], 1, "is not a JSON object"),
        (
            ["plan", "x", "--model", "torch.nn:ReLU", "--rename", "a"],
            1,
            "not of the form CHECKPOINT_NAME=MODEL_NAME",
        ),
        (["reuse"], 2, "the following arguments are required: job"),
        (["shw"], 2, "invalid choice: 'shw'"),
        (["predict", "run", "a.png", "--json", "--csv"], 2, "are two forms of the answer: choose one"),
        (
            ["cache", "clear", "."],
            1,
            "by key (--key), by age (--older-than-days) or by the size that may stay (--keep-gb)",
        ),
    ],
)
def test_errors_are_a_sentence_and_an_exit_code(tmp_path, monkeypatch, words, code, told):
    """1 for what regraft refuses, 2 for wrong usage; never a traceback."""
    monkeypatch.chdir(tmp_path)
    done = typed(*words)
    assert done.code == code
    assert told in done.errors
    assert "Traceback" not in done.errors


def test_the_exit_code_is_that_of_the_process(tmp_path):
    """As a shell sees it."""
    done = forked.run("-m", "regraft", "show", "none.npz", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("CheckpointError: The file none.npz does not exist.")


def test_no_words_print_the_commands():
    """As --help does."""
    done = typed()
    assert done.code == 0
    assert "Names, shapes and dtypes of a checkpoint's arrays" in done.output
    assert typed("--help") == done


def test_a_reader_that_has_seen_enough_is_no_error(theirs):
    """`regraft show … | head`: a pipe that is closed before all is written."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "regraft", "show", theirs]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=600)
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 1)


@pytest.mark.parametrize("words", [["plan", "theirs.npz", "--model", "net.py:net"], ["reuse", "·"], ["--help"]])
def test_an_output_without_our_characters_gets_others(theirs, words):
    """PYTHONIOENCODING=ascii, as on old terminals and in some pipelines."""
    (theirs.parent / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(2, 3)\n")
    done = subprocess.run(
        [sys.executable, "-m", "regraft", *words], cwd=theirs.parent, capture_output=True, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).decode("ascii")


@pytest.mark.parametrize("words", [["--help"], ["plan", "theirs.npz", "--model", "net.py:net"]])
def test_a_closed_output_ends_quietly(theirs, words):
    """A pipe whose reader has gone, and `>&-`."""
    (theirs.parent / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(2, 3)\n")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "regraft", *words]
    gone = subprocess.run(command, cwd=theirs.parent, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    closed = subprocess.run(shell, cwd=theirs.parent, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (gone.stderr, closed.stderr) == ("", "")


ESCAPES = "w\x1b]0;owned\x07\x1b[2J\u009b31m\u202e\rx"


@pytest.mark.parametrize("command", ["show", "show --json", "plan", "plan --all"])
def test_names_of_a_foreign_file_cannot_write_to_the_terminal(tmp_path, command):
    """No title, no cleared screen, no forged line: all is shown as escapes."""
    from safetensors.numpy import save_file

    names = {ESCAPES: np.ones((2, 3), np.float32), "b\nnote: trusted": np.ones(3, np.float32)}
    save_file(names, tmp_path / "theirs.safetensors", metadata={"k\x1b[2J": "v\x1b[2J"})
    model = ["--model", "torch.nn:Linear", "--model-args", '{"in_features": 3, "out_features": 2}']
    done = typed(*command.split(), tmp_path / "theirs.safetensors", *(model if "plan" in command else []))
    printed = done.output + done.errors
    assert "owned" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert not any(line.startswith("note: trusted") for line in printed.splitlines())


def test_an_error_about_a_foreign_name_cannot_write_to_the_terminal(tmp_path):
    """The name of a file, here."""
    (tmp_path / f"{ESCAPES}.npz").write_bytes(b"nothing")
    done = typed("show", tmp_path / f"{ESCAPES}.npz")
    assert done.code == 1
    assert all(character.isprintable() or character == "\n" for character in done.errors)


@pytest.mark.parametrize(
    "words",
    [["show", "pipe"], ["plan", "pipe", "--model", "torch.nn:ReLU"], ["predict", "run", "pipe"]],
)  # fmt: skip
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path, monkeypatch, words):
    """Nobody writes into it."""
    from torch import nn

    from regraft import save
    from regraft.saving import Factory

    os.mkfifo(tmp_path / "pipe")
    model = nn.Linear(2, 2)
    factory = Factory("torch.nn:Linear", {"in_features": 2, "out_features": 2})
    save(model, tmp_path / "run", classes=["a", "b"], factory=factory)
    monkeypatch.chdir(tmp_path)
    done = typed(*words)
    assert done.code == 1
    assert "Error: " in done.errors
