"""`fill`: compute the features of a job in any number of processes, and train nothing."""

from functools import partial
from pathlib import Path

import torch

from regraft.caches.computing import Filled
from regraft.caches.options import Share
from regraft.examples import call
from regraft.foundation.stopwatch import Stopwatch
from regraft.foundation.wording import counted, seconds_text
from regraft.jobs.advice import spelled_for
from regraft.jobs.features import fill_parts, refuse_no_common_features
from regraft.jobs.job import Job
from regraft.jobs.launching import share_of
from regraft.recipe import Tell, prepared
from regraft.splitting import split


@spelled_for("job")
def fill(
    job: Job | str | Path, *, share: Share | None = None, wait: bool = False, tell: Tell = lambda line: None
) -> dict[str, Filled]:
    """Compute this process's share of a job's features into [cache] folder: `reuse` finds them there.

    Start it in any number of processes, on any machines that see the folder: as the tasks of a Slurm array, for
    instance. What a process that dies had begun is computed by the others, or by `reuse`.

    share  which of how many processes this is; None: as the launcher tells it (torchrun, srun, arrays)
    wait   for the other processes, so that all features are there on return
    tell   is given sentences for the user

    Returns what was done for each part of the data. Raises JobError without a folder, and as `reuse`.
    """
    job = job if isinstance(job, Job) else Job.from_file(Path(job))
    refuse_no_common_features(job)
    torch.manual_seed(job.train.seed)
    ready = prepared(job, Stopwatch(), tell)
    trunk, _ = call(partial(split, ready.model), ready.inputs)
    tell(str(trunk.cut))
    filled = fill_parts(trunk, ready.data, job, share or share_of(), wait=wait)
    for part, done in filled.items():
        rest = f", {counted(done.missing, 'row')} left to other processes" if done.missing else ""
        tell(f"{part}: {counted(done.computed, 'row')} computed in {seconds_text(done.seconds)}{rest}")
    return filled
