"""Pickled trunks."""

import copy
import pickle

import pytest
import torch
from torch import nn

from golden_files import GOLDEN
from regraft import splitting
from regraft.errors import SplitError
from regraft.freezing import freeze
from regraft.splitting import split


def test_a_trunk_that_an_earlier_version_pickled_is_split_again(monkeypatch):
    """Written by commit 086993c, from which names and contents of the recorded forward differ."""
    trunk, head = pickle.loads((GOLDEN / "regraft_trunk.pkl").read_bytes())
    x = torch.randn(5, 1, 4, 4)
    for mode in (True, False):
        model = copy.deepcopy(trunk.model).train(mode)
        head.train(mode)
        assert torch.equal(head(trunk(x)), model(x))
    assert [leaf.name for leaf in trunk.cut.leaves] == ["3"]
    assert head.trunk is trunk

    monkeypatch.setattr(splitting, "proven_modes", None)  # a pickle of this version is taken as it is
    again = pickle.loads(pickle.dumps(trunk))
    assert torch.equal(again(x)["3"], trunk(x)["3"])


def test_a_pickled_trunk_whose_cut_cannot_be_made_again_is_refused(monkeypatch):
    """Features of the pickled one would not fit."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    freeze(model, "0")
    pickled = pickle.dumps(split(model, torch.ones(2, 4), at="0")[0])
    monkeypatch.setattr(splitting, "digest_of_code", lambda: "a later version")
    with pytest.raises(SplitError, match=r"(?s)by another version .* It cuts the model elsewhere"):
        pickle.loads(pickled)
    monkeypatch.setattr(splitting, "proven_modes", None)
    with pytest.raises(SplitError, match=r"by another version .* Load the model and call `split` with"):
        pickle.loads(pickled)
