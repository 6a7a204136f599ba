"""A job's features by several processes, and a job whose processes train together."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from regraft.caches.options import Share
from regraft.errors import JobError
from regraft.filling import fill
from regraft.jobs.job import Job
from regraft.recipe import reuse


def weights_in(folder):
    return (folder / "model.safetensors").read_bytes()


def test_processes_fill_a_folder_that_the_job_then_trains_on(job_file):
    """The model is that of one process, to the byte; nothing is computed again."""
    job = Job.from_file(job_file, ["cache.folder='shared'"])
    lines = []
    filled = [fill(job, share=Share(number, 2), tell=lines.append) for number in range(2)]
    assert {part: sum(done[part].computed for done in filled) for part in filled[0]} == {
        "train": 12, "validation": 4, "test": 16,
    }  # fmt: skip
    assert any(line.startswith("train: 12 rows computed in") for line in lines)
    several, alone = reuse(job), reuse(Job.from_file(job_file, ["out.folder='alone'"]))
    assert weights_in(several.folder) == weights_in(alone.folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], r"\[cache\] names no folder for them.*\nSet \[cache\] folder"),
        (["cache.folder='f'", "cache.engine='fast'"], r"each process chooses.*\nSet \[cache\] engine = \"exact\""),
        (["cache.folder='f'", "cache.use=false"], r"\[cache\] use is false"),
    ],
)
def test_jobs_whose_features_processes_cannot_share_are_refused(job_file, settings, message):
    with pytest.raises(JobError, match=message):
        fill(Job.from_file(job_file, settings))


def test_processes_that_are_started_together_train_one_run(job_file):
    """As torchrun and srun start them: the features by both, the head by both, and one of them writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": loopback, "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "regraft", "reuse", str(job_file), "--set", "cache.folder='shared'"]
    processes = [
        subprocess.Popen(
            command, env=os.environ | where | {"RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert "accuracy" in said[0]
    assert not said[1]  # the second one says nothing
    alone = reuse(Job.from_file(job_file, ["out.folder='alone'"]))
    run = job_file.parent / "run"
    ours, theirs = load_file(run / "model.safetensors"), load_file(alone.folder / "model.safetensors")
    for name, values in theirs.items():
        assert torch.allclose(ours[name], values, atol=1e-6)  # gradients are summed in another order
    assert any("2 processes" in note for note in json.loads((run / "metrics.json").read_text())["notes"])
    assert not run.with_name("run.unfinished").exists()
