"""What a REPL and a notebook show of the objects that a user holds."""

import sys
import warnings

import pytest
import torch
from torch import nn

import regraft
from regraft.errors import TrainError
from regraft.learning.history import History


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """One object of each kind."""
    from safetensors.torch import save_file

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    file = tmp_path_factory.mktemp("held") / "a.safetensors"
    save_file(model.state_dict(), file)
    checkpoint = regraft.open_checkpoint(file)
    data = (torch.randn(12, 4), torch.arange(12) % 3)
    plan = regraft.plan_reuse(checkpoint, model, fresh="2")
    regraft.freeze(model, "0")
    trunk, head = regraft.split(model, data[0][:2])
    features = regraft.cache_features(trunk, data)
    history = regraft.train(head, features, validation=features, solver=regraft.Steps(epochs=3))
    score = regraft.evaluate(head, features)
    return {
        "checkpoint": checkpoint, "plan": plan, "cut": trunk.cut,
        "features": features, "history": history, "score": score,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("checkpoint", "safetensors, 4 arrays"),
        ("plan", "2 reused · 2 fresh · 0 problems"),
        ("cut", "bytes per example"),
        ("features", "12 examples"),
        ("history", "3 epochs"),
        ("score", "accuracy"),
    ],
)
def test_an_object_is_a_line_in_a_repl_and_a_table_in_a_notebook(held, name, shown):
    """Not a page of a dataclass's fields."""
    line = repr(held[name])
    assert shown in line
    assert len(line) < 250
    html = held[name]._repr_html_()
    assert "<table>" in html or "<pre" in html
    assert shown in html


def test_a_history_is_drawn_where_matplotlib_is_installed(held, monkeypatch):
    """Losses above, accuracy below; a single axes takes the losses alone."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's own
        losses, accuracy = held["history"].plot()
        assert [line.get_label() for line in losses.get_lines()][:2] == ["training", "validation"]
        assert list(accuracy.get_lines()[0].get_ydata()) == list(held["history"].validation_accuracy)
        _, own = pyplot.subplots()
        assert held["history"].plot(own) == [own]
        assert len(History((1.0, 0.5)).plot()) == 1
        pyplot.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(TrainError, match="pip install matplotlib"):
        held["history"].plot()
