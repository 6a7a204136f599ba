import pytest
import torch

from regraft.contracts.preparation import Preparation
from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.labelled import Chosen, Target
from regraft.datasets.rows import TableRows
from regraft.errors import TrainError
from regraft.jobs.method import monitored, request_of, solvers_of, watched
from regraft.jobs.sections import ExactTable, StepsTable, TrainSection
from regraft.learning.checkpoints import Checkpoints
from regraft.learning.solvers import Exact, Steps

ONE_OF_TWO = ArrayExamples(torch.zeros(4, 2), torch.arange(4) % 2, Target("classification", ("a", "b")))


@pytest.mark.parametrize(
    ("section", "solver"),
    [
        (TrainSection(), [Exact(), Steps()]),
        (TrainSection(steps=StepsTable(lr=0.1)), [Steps(lr=0.1)]),
        (TrainSection(exact=ExactTable(weight_decay=[0.1, 1.0])), [Exact(weight_decay=[0.1, 1.0])]),
        (TrainSection(epochs=3, patience=2), [Steps(epochs=3, patience=2)]),
        (TrainSection(weight_decay=0.1), [Exact(weight_decay=0.1), Steps(weight_decay=0.1)]),
        (TrainSection(solver="lbfgs", epochs=3, weight_decay=0.1), [Exact(weight_decay=0.1)]),
        (TrainSection(solver="steps"), [Steps()]),
    ],
)
def test_a_job_names_its_method_by_a_table_or_by_the_keys_of_older_jobs(section, solver):
    assert solvers_of(section) == solver


def test_checkpoints_and_callbacks_belong_to_gradient_steps():
    """The exact optimum has no epochs."""
    exact, steps = watched([Exact(), Steps(lr=0.1)], Checkpoints("folder"), [print])
    assert exact == Exact()
    assert (steps.lr, steps.checkpoints, steps.callbacks) == (0.1, Checkpoints("folder"), (print,))


def test_classes_of_positions_are_balanced_by_all_of_them():
    """As scikit-learn's "balanced"; positions without a class do not count."""
    labels = [torch.tensor([0, 0, 0, -100]), torch.tensor([1])]
    rows = TableRows(
        {}, labels, Target("token-classification", ("a", "b")), Preparation(), ids=["0", "1"], where="here"
    )
    request = request_of(TrainSection(class_weights="balanced"), Chosen(rows, torch.tensor([1, 0])))
    assert request.weights.class_weights == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])


def test_what_is_monitored_has_to_be_computed():
    """Said before anything is computed."""
    section = TrainSection(metrics=["f1"])
    monitored([Steps(monitor="f1")], request_of(section, ONE_OF_TWO))
    with pytest.raises(TrainError, match="There is no metric 'f11' to monitor"):
        monitored([Steps(monitor="f11")], request_of(section, ONE_OF_TWO))
