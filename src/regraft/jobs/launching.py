"""The processes that a launcher has started for a job: torchrun, srun, mpirun, arrays of Slurm and Kubernetes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch.distributed as dist

from regraft.caches.options import Share
from regraft.errors import JobError
from regraft.foundation.progress import SWITCH
from regraft.learning.ranks import Ranks, ranks_of

Environment = Mapping[str, str]
# Variables of the processes that start together: number and count. Slurm sets SLURM_NTASKS in a batch script, too,
# which is one process; SLURM_STEP_NUM_TASKS is set by srun alone.
TOGETHER = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate launch, Lightning, Ray Train
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
# Of the tasks of an array, which start when there is room: number, first number, step, and how many there are.
ARRAYS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "", "", "JOB_COMPLETIONS"),  # Kubernetes; the manifest has to hand on the count
)


def share_of(environment: Environment = os.environ) -> Share:
    """Which of the processes that fill one store this is, as the launcher tells it: Share(0, 1) where none does."""
    number, count = _together(environment)
    for name, first, step, size in ARRAYS:
        if name in environment and size in environment:
            tasks = int(environment[size])
            task = (int(environment[name]) - int(environment.get(first, 0))) // int(environment.get(step, 1))
            number, count = task % tasks * count + number, tasks * count  # an array of 1,5,9 has gaps
    return Share(number, count)


@contextmanager
def joined(environment: Environment = os.environ) -> Iterator[Ranks]:
    """The processes that a launcher has started together are a group of torch.distributed in the block.

    A process that is by itself, or that is in a group already, stays as it is. Progress is shown by rank 0 alone.

    Raises JobError where the launcher does not tell where the processes meet.
    """
    number, count = _together(environment)
    if count == 1 or dist.is_initialized():
        yield ranks_of(None)
        return
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise JobError(
            f"{count} processes were started together, and {' and '.join(missing)} do not say where they meet. Start "
            "them by torchrun, or set both: in a Slurm script\n"
            '  export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) MASTER_PORT=29500'
        )
    address = f"tcp://{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    # torchrun's own store is at this address already: "env://" uses it
    dist.init_process_group(init_method="env://" if "TORCHELASTIC_RUN_ID" in environment else address,
                            rank=number, world_size=count)  # fmt: skip
    before = os.environ.get(SWITCH)
    try:
        if number:
            os.environ[SWITCH] = "off"
        yield Ranks(number, count)
    finally:
        _restore(SWITCH, before)
        dist.destroy_process_group()


def is_first(environment: Environment = os.environ) -> bool:
    """Whether this process speaks for those that were started together."""
    return _together(environment)[0] == 0


def _together(environment: Environment) -> tuple[int, int]:
    """Number and count of the processes that were started together."""
    for number, count in TOGETHER:
        if number in environment and count in environment:
            return int(environment[number]), int(environment[count])
    if {"SLURM_PROCID", "SLURM_NTASKS", "MASTER_ADDR"} <= set(environment):
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
    return 0, 1


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
