"""A head on several layers."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import regraft
from regraft.errors import PatternError, SaveError
from regraft.layer_heads import HeadOnLayers, body_of, head_on_layers
from regraft.saving import Factory


class Body(nn.Module):
    """Two layers with functional activations and a head of three classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(4, 16), nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())


def data():
    torch.manual_seed(1)
    labels = torch.arange(90) % 3
    return torch.eye(3, 4)[labels] + 0.4 * torch.randn(90, 4), labels


def test_it_is_split_cached_and_solved_as_any_model():
    """The joined means are the features; the head is scikit-learn's optimum."""
    x, y = data()
    model = head_on_layers(Body(), (x, y), 3)
    assert [layer.place for layer in model.trunk.layers] == ["input of second", "input of head"]

    trunk, head = regraft.split(model, x[:2])
    features = regraft.cache_features(trunk, (x, y))
    history = regraft.train(head, features, solver=regraft.Exact(weight_decay=0.1))

    assert [(leaf.name, leaf.shape) for leaf in trunk.cut.leaves] == [("trunk", (22,))]
    assert any("Exact" in note for note in history.notes)
    rows = features.to_numpy()[0]
    theirs = LogisticRegression(C=1 / (90 * 0.1), tol=1e-8, max_iter=2000).fit(rows, y.numpy())
    ours = model.eval()(x).softmax(1).detach().numpy()
    assert abs(ours - theirs.predict_proba(rows)).max() < 1e-3  # both stop near the optimum
    body = body_of(model)
    hidden = body.first(x).relu()
    scales = [layer.scale for layer in model.trunk.layers]
    expected = torch.cat([hidden * scales[0], body.second(hidden).relu() * scales[1]], 1)
    assert torch.equal(model.trunk(x), expected)


def test_every_layer_counts_alike():
    """The scales are powers of two that bring each layer's energy near half of the columns."""
    body = Body()
    body.first.weight.data *= 100
    model = head_on_layers(body, data(), 3)

    for layer, rows in zip(model.trunk.layers, model.trunk(data()[0]).split([16, 6], 1), strict=True):
        energy = float((rows - rows.mean(0)).square().sum(1).mean())
        assert 0.5 <= energy / 11 <= 2.1
        assert torch.frexp(torch.tensor(layer.scale))[0] == 0.5


def test_saved_and_loaded_it_gives_the_same(tmp_path):
    """By a factory, by its class, or into a body of the caller's; its settings are in the record."""
    x, y = data()
    model = head_on_layers(Body(), (x, y), 5, layers="first|second").eval()
    assert [layer.place for layer in model.trunk.layers] == ["first", "second"]

    regraft.save(model, tmp_path / "own")
    regraft.save(model, tmp_path / "factory", factory=Factory("test_layer_heads:Body"))

    for loaded in (
        regraft.load(tmp_path / "own"),
        regraft.load(tmp_path / "factory"),
        regraft.load(tmp_path / "own", model=Body()),
        regraft.load(tmp_path / "own", model=HeadOnLayers.from_settings(Body(), model.settings())),
    ):
        assert torch.equal(loaded(x), model(x))


def test_a_damaged_head_is_refused(tmp_path):
    """The record says what it should have been."""
    regraft.save(head_on_layers(Body(), data(), 3), tmp_path / "own")
    record = tmp_path / "own" / "regraft.json"
    record.write_text(record.read_text().replace('"columns"', '"colours"'))

    with pytest.raises(SaveError, match=r"regraft\.json is damaged: head: TypeError"):
        regraft.load(tmp_path / "own")


def test_the_body_is_frozen_and_unknown_layers_are_refused():
    """Only the linear layer trains."""
    model = head_on_layers(Body(), data(), 3)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["linear.weight", "linear.bias"]
    for layers in ("third", "input of third"):
        with pytest.raises(PatternError, match="third"):
            head_on_layers(Body(), data(), 3, layers=layers)
