import pytest

from regraft.jobs.method import solver_of
from regraft.jobs.sections import ExactTable, StepsTable, TrainSection
from regraft.learning.solvers import Exact, Steps


@pytest.mark.parametrize(
    ("section", "solver"),
    [
        (TrainSection(), [Exact(), Steps()]),
        (TrainSection(steps=StepsTable(lr=0.1)), Steps(lr=0.1)),
        (TrainSection(exact=ExactTable(weight_decay=[0.1, 1.0])), Exact(weight_decay=[0.1, 1.0])),
        (TrainSection(epochs=3, patience=2), [Steps(epochs=3, patience=2)]),
        (TrainSection(weight_decay=0.1), [Exact(weight_decay=0.1), Steps(weight_decay=0.1)]),
        (TrainSection(solver="lbfgs", epochs=3, weight_decay=0.1), [Exact(weight_decay=0.1)]),
        (TrainSection(solver="steps"), [Steps()]),
    ],
)
def test_a_job_names_its_method_by_a_table_or_by_the_keys_of_older_jobs(section, solver):
    assert solver_of(section) == solver
