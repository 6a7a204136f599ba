"""Two processes that train together end as one process at the same batches; what they cannot train is refused.

Everything that two processes do is in rank_cases.py: they are started once.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rank_cases
from regraft.errors import TrainError
from regraft.learning.ranks import ALONE, ranks_of
from regraft.learning.solvers import Exact, Steps

SCRIPT = Path(rank_cases.__file__)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The results of two processes that trained together, by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), "2", str(folder)],
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
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", ["steps", "candidates", "streamed", "exact", "whole_model"])
def test_two_processes_end_as_one(both, name, tmp_path):
    """The same weights, losses, metrics and decisions."""
    alone = getattr(rank_cases, name)(tmp_path, (0, 1))
    first, second = (results[name] for results in both)
    assert torch.equal(first["weights"], second["weights"])
    assert torch.equal(first["numbers"], second["numbers"])
    assert first["text"] == second["text"] == alone["text"]
    # float32 sums in another order, over a few steps; the optimum is one within a tolerance of the loss
    atol = 2e-4 if name == "exact" else 2e-6
    assert torch.allclose(first["weights"], alone["weights"], atol=atol, rtol=1e-4)
    assert torch.allclose(first["numbers"], alone["numbers"], atol=1e-5)


def test_the_history_says_that_gradients_were_summed(both):
    """The step is the eager one."""
    assert any("2 processes take a part of each batch" in note for note in both[0]["steps"]["notes"])


def test_an_interrupted_training_of_two_goes_on_with_each_processs_dropout(both):
    """Each process has its own random numbers, and the file keeps them all."""
    for results in both:
        assert torch.equal(results["resumed"]["again"], results["resumed"]["weights"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norm", "1 BatchNorm layer would train on a part of each batch in each of 2 processes"),
        ("own_norm", "The loss of a batch of 32 examples is "),
        ("contrast", "The loss of a batch of 32 examples is "),
        ("weights", "These differ: frozen tensors, the weights of 0.weight"),
        ("labels", "These differ: labels.\nEach process needs the same model, options and whole data set"),
        ("inputs", "The 2 processes of the group have different inputs. Pass the whole data set to each"),
        ("options", "These differ: lr."),
    ],
)
def test_what_several_processes_cannot_train_is_refused_in_each(both, name, message):
    texts = [results["refusals"]["texts"][name] for results in both]
    assert texts[0] == texts[1]
    assert message in texts[0]
    assert 'Pass group="alone" to train each process by itself' in texts[0]


def test_a_process_trains_alone_where_it_is_asked_to(both, tmp_path):
    """Although torch.distributed is initialised: BatchNorm and all."""
    alone = rank_cases.refusals(tmp_path, (0, 1))
    for results in both:
        assert torch.equal(results["refusals"]["weights"], alone["weights"])


def test_without_torch_distributed_a_process_is_alone():
    assert ranks_of(None) is ranks_of("alone") is ALONE
    assert (ALONE.gathered(1), ALONE.from_first(2)) == ([1], 2)


@pytest.mark.parametrize("solver", [Steps, Exact])
def test_a_group_that_there_is_not_is_refused(solver):
    with pytest.raises(TrainError, match="group is 'all', expected \"alone\" or a process group"):
        solver(group="all")
