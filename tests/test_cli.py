"""The command line, as a user types it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from typed import typed


def regraft(*words, cwd=None):
    """The finished command."""
    return subprocess.run(
        [sys.executable, "-m", "regraft", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=900
    )


@pytest.fixture
def theirs(tmp_path):
    """A small checkpoint."""
    np.savez(tmp_path / "theirs.npz", **{"dnn/0/kernel": np.ones((2, 3), np.float32), "dnn/0/bias": np.zeros(3)})
    return tmp_path / "theirs.npz"


@pytest.fixture
def run_folder(job_file):
    """A finished run."""
    done = regraft("reuse", job_file)
    assert done.returncode == 0, done.stderr
    return job_file.parent / "run"


def test_show_prints_a_line_for_each_array(theirs):
    """And JSON for machines."""
    assert "dnn/0/kernel  2 × 3  float32" in regraft("show", theirs).stdout
    assert json.loads(regraft("show", theirs, "--json").stdout)["arrays"]["dnn/0/bias"]["shape"] == [3]


def test_plan_tells_where_each_array_goes_and_writes_json(theirs, tmp_path):
    """Rename, layout, out."""
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(out=3): return nn.Sequential(nn.Linear(2, out))\n")
    words = ["plan", theirs, "--model", "net.py:net", "--layout", "tensorflow", "--rename", r"dnn/(.*)=\1"]
    done = regraft(*words, "--out", tmp_path / "plan.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 reused · 0 fresh · 0 problems")
    assert json.loads((tmp_path / "plan.json").read_text())["layout"] == "tensorflow"


def test_a_plan_with_problems_exits_with_one(theirs, tmp_path):
    """So that scripts notice."""
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(out=3): return nn.Sequential(nn.Linear(2, out))\n")
    words = ["plan", theirs, "--model", "net.py:net", "--layout", "tensorflow", "--model-args", '{"out": 4}']
    words += ["--rename", r"dnn/(.*)=\1"]
    done = regraft(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "shape_mismatch" in done.stdout


def test_a_job_prints_the_plan_and_the_result_without_bars(job_file):
    """Standard error is no terminal here: no progress bar, no escape codes."""
    done = regraft("reuse", job_file, "--set", "train.epochs=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 reused" in done.stdout
    assert "accuracy" in done.stdout
    assert "\x1b" not in done.stdout


def test_predictions_come_as_text_json_and_csv(run_folder):
    """One line, one object, one row for each image."""
    images = run_folder.parent / "test"
    text = regraft("predict", run_folder, images).stdout.splitlines()
    objects = json.loads(regraft("predict", run_folder, images, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(regraft("predict", run_folder, images, "--csv").stdout)))
    assert len(text) == len(objects) == len(rows) == 16
    assert objects[0]["label"] == rows[0]["class"]


def test_damaged_images_are_skipped_when_asked_and_named_on_standard_error(run_folder):
    """What the error advises is an option of the command."""
    image = run_folder.parent / "test" / "dark" / "00.png"
    image.write_bytes(b"damaged")
    assert "--skip-unreadable" in regraft("predict", run_folder, image).stderr
    done = regraft("predict", run_folder, run_folder.parent / "test", "--skip-unreadable")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 15)
    assert done.stderr == f"note: 1 unreadable image skipped: {image}\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["show", "none.npz"], 1, "CheckpointError: There is no checkpoint none.npz"),
        (["reuse", "none.toml"], 1, "JobError: The job none.toml cannot be read"),
        (["predict", "none", "a.png"], 1, "SaveError: none is no saved model"),
        (["plan", "x", "--model", "net"], 1, "JobError: 'net' names no factory"),
        (["plan", "x", "--model", "a:b", "--model-args", "[1]"], 1, "is no JSON object"),
        (["plan", "x", "--model", "torch.nn:ReLU", "--rename", "a"], 1, "is not of the form THEIRS=OURS"),
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
def test_errors_are_a_sentence_and_an_exit_code(tmp_path, words, code, told):
    """1 for what regraft refuses, 2 for wrong usage; never a traceback."""
    done = regraft(*words, cwd=tmp_path)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_existing_run_is_refused_unless_told(run_folder):
    """--overwrite replaces it."""
    job = run_folder.parent / "job.toml"
    assert "exists already; nothing was changed" in regraft("reuse", job).stderr
    assert regraft("reuse", job, "--overwrite").returncode == 0


def test_ctrl_c_leaves_no_half_written_run(job_file):
    """The signal of a person who changed their mind; exit code 130 as shells expect."""
    words = [sys.executable, "-m", "regraft", "reuse", job_file, "--set", "train.epochs=1000000"]
    words += ["--set", "train.optimizer=sgd"]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    before = {path.name for path in job_file.parent.iterdir()}
    time.sleep(0.1)
    for line in started.stdout:
        if "bytes per example" in line:  # the plan is applied, training begins
            break
    time.sleep(1)
    os.killpg(started.pid, signal.SIGINT)
    try:
        _, told = started.communicate(timeout=600)
    finally:
        started.kill()
    assert started.returncode == 130, told
    assert "Stopped; nothing half-written was left" in told
    assert "Traceback" not in told
    assert {path.name for path in job_file.parent.iterdir()} - {"__pycache__"} == before


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
