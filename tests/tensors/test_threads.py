"""The number of threads follows the work of a step, and is afterwards as before."""

import math

import pytest
import torch
from torch import nn

import regraft
from regraft.tensors import threads
from regraft.tensors.threads import WORK_OF_A_THREAD, threads_for, threads_of


@pytest.fixture
def eight_threads(monkeypatch):
    """A machine of eight cores whose user has chosen nothing."""
    before = torch.get_num_threads()
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(8)
    monkeypatch.setattr(threads, "_AT_THE_START", 8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("work", "expected"), [(0, 1), (1.9, 1), (2, 2), (5.5, 5), (8, 8), (math.inf, 8)])
def test_a_step_has_as_many_threads_as_its_work_fills(eight_threads, work, expected):
    """One at least, and no more than there are cores."""
    assert threads_of(work * WORK_OF_A_THREAD) == expected


def test_the_number_is_afterwards_as_before(eight_threads):
    """After an error too; a step within a step keeps its number."""
    with threads_for(0):
        assert torch.get_num_threads() == 1
        with threads_for(math.inf):
            assert torch.get_num_threads() == 1
    with pytest.raises(ZeroDivisionError), threads_for(0):
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == 8


def test_the_users_own_number_stays(eight_threads, monkeypatch):
    """By torch.set_num_threads or by a variable."""
    torch.set_num_threads(3)
    assert threads_of(0) == 3
    torch.set_num_threads(8)
    assert threads_of(0) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert threads_of(0) == 8


def test_a_split_its_features_and_the_training_choose_by_their_own_steps(eight_threads):
    """One thread for a small model, those of torch for an unknown amount of work; seen by the layers themselves."""
    seen = {}

    class Looks(nn.Linear):
        def forward(self, x):
            seen.setdefault(self.out_features, set()).add(torch.get_num_threads())
            return super().forward(x)

    model = nn.Sequential(Looks(6, 5), nn.Tanh(), Looks(5, 2))
    regraft.freeze(model, "0")
    trunk, head = regraft.split(model, torch.randn(2, 6))
    seen.clear()
    data = torch.randn(8, 6), torch.arange(8) % 2
    features = regraft.cache_features(trunk, data)
    regraft.train(head, features, solver=regraft.Steps(epochs=1, traced=False, lr=0.1))
    regraft.evaluate(head, features)
    assert seen[5] == {1}
    assert 1 in seen[2]
    assert trunk.step_work < WORK_OF_A_THREAD
    assert torch.get_num_threads() == 8
