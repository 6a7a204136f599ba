"""What launchers tell their processes, and what is refused where they tell too little."""

import pytest

from regraft.caches.options import Share
from regraft.errors import JobError
from regraft.jobs.launching import is_first, joined, share_of
from regraft.learning.ranks import ALONE

ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "3"}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, (2, 4)),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, (2, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, (2, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # a batch script: one process with room for four
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "MASTER_ADDR": "node1"}, (2, 4)),
        (ARRAY, (2, 3)),
        (ARRAY | {"RANK": "1", "WORLD_SIZE": "2"}, (5, 6)),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_STEP": "2"}, (2, 3)),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "90"}, (1, 3)),  # an array with gaps: any number of the three will do
        ({"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "8"}, (3, 8)),
        ({"JOB_COMPLETION_INDEX": "3"}, (0, 1)),
    ],
)
def test_the_share_is_what_the_launcher_tells(environment, share):
    assert share_of(environment) == Share(*share)


def test_a_process_by_itself_joins_nothing():
    """The tasks of an array neither: they need not run at the same time."""
    for environment in ({}, ARRAY):
        with joined(environment) as ranks:
            assert ranks is ALONE
    assert is_first(ARRAY)
    assert not is_first({"RANK": "1", "WORLD_SIZE": "2"})


def test_processes_that_do_not_know_where_to_meet_are_told_how():
    started_by_srun = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
    message = r"2 processes .* MASTER_ADDR and MASTER_PORT do not say where"
    with pytest.raises(JobError, match=message) as caught, joined(started_by_srun):
        pass
    assert "export MASTER_ADDR=$(scontrol show hostnames" in str(caught.value)
