"""`regraft reuse` and `regraft predict`, as a user types them."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import forked
from jobs import write_job
from typed import typed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a job and its finished run, and the command that ran it."""
    folder = tmp_path_factory.mktemp("job")
    return folder, forked.run("-m", "regraft", "reuse", write_job(folder), "--set", "train.epochs=2")


@pytest.fixture
def run_folder(finished, tmp_path):
    """A finished run beside its job, of one's own."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_a_job_prints_the_plan_and_the_result_without_bars(finished):
    """Standard error is no terminal here: no progress bar, no escape codes."""
    done = finished[1]
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 reused" in done.stdout
    assert "accuracy" in done.stdout
    assert "\x1b" not in done.stdout


def test_predictions_come_as_text_json_and_csv(run_folder):
    """One line, one object, one row for each image."""
    images = run_folder.parent / "test"
    text = typed("predict", run_folder, images).output.splitlines()
    objects = json.loads(typed("predict", run_folder, images, "--json").output)
    rows = list(csv.DictReader(io.StringIO(typed("predict", run_folder, images, "--csv").output)))
    assert len(text) == len(objects) == len(rows) == 16
    assert objects[0]["label"] == rows[0]["class"]


def test_a_files_name_makes_no_line_of_its_own(run_folder):
    """One line for each answer, whatever the folder is called."""
    images = run_folder.parent / "te\nst\x1b[2J"
    (run_folder.parent / "test").rename(images)
    printed = typed("predict", run_folder, images).output
    assert len(printed.splitlines()) == 16
    assert "\x1b" not in printed


def test_damaged_images_are_skipped_when_asked_and_named_on_standard_error(run_folder):
    """What the error advises is an option of the command."""
    image = run_folder.parent / "test" / "dark" / "00.png"
    image.write_bytes(b"damaged")
    assert "--skip-unreadable" in typed("predict", run_folder, image).errors
    done = typed("predict", run_folder, run_folder.parent / "test", "--skip-unreadable")
    assert (done.code, len(done.output.splitlines())) == (0, 15)
    assert done.errors == f"note: 1 unreadable image skipped: {image}\n"


def test_an_existing_run_is_refused_unless_told(run_folder):
    """--overwrite replaces it."""
    job = run_folder.parent / "job.toml"
    assert "exists already; nothing was changed" in typed("reuse", job).errors
    assert typed("reuse", job, "--overwrite").code == 0


STOPS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def names_beside(job_file):
    """What there is in the job's folder."""
    return {path.name for path in job_file.parent.iterdir()} - {"__pycache__"}


@STOPS
def test_a_job_that_is_stopped_before_its_training_leaves_nothing(job_file, monkeypatch, number, code):
    """The signal comes while the model is built; the exit code is the one that shells expect."""
    own = job_file.parent / "net.py"
    own.write_text(
        f"import signal\n{own.read_text()}".replace("    return", f"    signal.raise_signal({number})\n    return")
    )
    before, codes = names_beside(job_file), []
    monkeypatch.setattr(os, "_exit", codes.append)

    done = typed("reuse", job_file)

    assert codes == [code]
    assert done.errors == "Stopped; nothing half-written was left.\n"
    assert names_beside(job_file) == before


@STOPS
def test_a_job_that_is_stopped_while_it_trains_keeps_its_finished_epochs(job_file, number, code):
    """And says how to go on. The signal comes from another process, after the first epoch."""
    words = [sys.executable, "-m", "regraft", "reuse", job_file, "--set", "train.epochs=1000000"]
    words += ["--set", "train.optimizer=sgd"]
    before, epochs = names_beside(job_file), job_file.parent / "run.unfinished" / "epochs.csv"
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        while not epochs.exists() and started.poll() is None:
            time.sleep(0.01)
        started.send_signal(number)
        errors = started.stderr.read()

    assert started.returncode == code, errors
    assert f"the finished epochs are kept; go on with: regraft reuse {job_file} --resume" in errors
    assert "Stopped; nothing half-written was left" in errors
    assert names_beside(job_file) == {*before, "run.unfinished"}
    assert {path.name for path in epochs.parent.iterdir()} == {"training.pt", "epochs.csv"}


def test_a_run_of_a_stranger_is_used_without_executing_its_code(run_folder, monkeypatch):
    """--help says that the folder's code is executed, and --model builds by one's own instead."""
    monkeypatch.chdir(run_folder.parent)
    own = (run_folder / "net.py").read_text()
    (run_folder.parent / "own.py").write_text(own)
    bomb = "open('executed', 'w').close()\n" + own
    (run_folder / "net.py").write_text(bomb)
    record = json.loads((run_folder / "regraft.json").read_text())
    record["model"]["sha256"] = hashlib.sha256(bomb.encode()).hexdigest()
    (run_folder / "regraft.json").write_text(json.dumps(record))
    words = ["predict", run_folder, run_folder.parent / "test", "--model", "own.py:net"]

    done = typed(*words)

    assert (done.code, len(done.output.splitlines())) == (0, 16), done.errors
    assert not (run_folder.parent / "executed").exists()
    assert "Executes the code in the run folder" in typed("predict", "--help").output
    assert typed(*words[:3]).code == 0
    assert (run_folder.parent / "executed").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_under_the_output_ends_no_training(job_file):
    """The run is there; the exit code says that the result could not be printed."""
    done = forked.run("-m", "regraft", "reuse", job_file, output="/dev/full")
    assert done.returncode != 0
    assert "note: the output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert (job_file.parent / "run" / "model.safetensors").is_file()


def test_advice_on_a_job_prints_a_table_and_writes_the_chart(job_file):
    """Nothing is trained; --json is the numbers alone."""
    chart = job_file.parent / "chart.svg"
    done = typed("advise", job_file, "--svg", chart)
    assert (done.code, done.errors) == (0, "")
    assert "every example predicted by the others" in done.output
    assert chart.read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert not (job_file.parent / "run").exists()
    told = json.loads(typed("advise", job_file, "--json", "--set", "advise.control=false").output)
    assert [row["name"] for row in told["rows"]] == ["(the input)", "4", "(all layers)"]
    assert told["rows"][1]["shuffled"] is None


def test_a_reader_that_has_seen_enough_ends_no_training(job_file):
    """`regraft reuse job.toml | head -1`."""
    words = [sys.executable, "-m", "regraft", "reuse", job_file]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.readline()
        running.stdout.close()
        errors = running.stderr.read()
    assert running.wait(600) in (0, 1)  # 1 where only the result met a closed pipe
    assert "Traceback" not in errors
    assert (job_file.parent / "run" / "model.safetensors").is_file()
