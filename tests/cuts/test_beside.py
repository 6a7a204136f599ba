"""Outputs of layers that cross beside the cut."""

import pytest
import torch
from torch import nn

from regraft.caching import cache_features
from regraft.errors import SplitError
from regraft.freezing import freeze
from regraft.splitting import split


class Stages(nn.Module):
    """Convolutions in a Sequential, a mean over the picture, and two linear layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3), nn.ReLU())
        self.neck, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.neck(self.body(x).mean((2, 3))).relu())


def model_and_pictures():
    """Frozen up to the neck."""
    model = Stages()
    freeze(model, "body|neck")
    return model, torch.randn(3, 3, 9, 9)


def test_every_named_layer_crosses():
    """As it is where the layer gives it, also where the next layer writes into it; the head takes the deepest."""
    model, x = model_and_pictures()

    trunk, head = split(model, x, at=["body.0", "body.2", "neck"])

    features = trunk(x)
    assert list(features) == ["body.0", "body.2", "neck"] == [leaf.name for leaf in trunk.cut.leaves]
    model.eval()
    first = model.body[0](x)
    assert torch.equal(features["body.0"], first)
    assert torch.equal(features["body.2"], model.body[2](first.clone().relu()))
    assert torch.equal(head.eval()({"neck": features["neck"]}), model(x))
    assert torch.equal(head(features), model(x))


def test_means_cross_beside_the_cheapest_cut():
    """One number for each channel, of rows in a batch of any size."""
    model, x = model_and_pictures()

    trunk, head = split(model, x[:2], at=r"body\.[02]|neck", pool="mean")

    features = trunk(x)
    maps = model.body[0](x)
    assert torch.equal(features["mean(body.0)"], maps.mean((2, 3)))
    assert torch.equal(features["mean(body.2)"], model.body[2](maps.relu()).mean((2, 3)))
    assert torch.equal(features["mean(neck)"], model.neck(model.body(x).mean((2, 3))))
    assert [leaf.shape for leaf in trunk.cut.leaves if leaf.name.startswith("mean")] == [(4,), (6,), (5,)]
    assert torch.equal(head.eval()(features), model.eval()(x))


def test_a_mean_counts_the_positions_of_the_attention_mask():
    """As transformers names it."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.linear, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, input_ids, attention_mask):
            hidden = self.linear(self.embedding(input_ids)) * attention_mask[..., None]
            return self.head(hidden.sum(1))

    model = Text()
    freeze(model, "embedding|linear")
    ids, mask = torch.randint(9, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])

    trunk, _ = split(model, ids, mask, at="linear", pool="mean")

    expected = model.linear(model.embedding(ids[1:, :4])).mean(1)
    torch.testing.assert_close(trunk(ids, mask)["mean(linear)"][1:], expected)  # another order of sums


def test_what_cannot_cross_is_named_with_its_reason():
    """All at once."""
    model, x = model_and_pictures()
    model.unused = nn.Linear(2, 2)

    with pytest.raises(SplitError, match=r"(?s)  head: it is not frozen.*  unused: it does not run"):
        split(model, x, at=["body.0", "unused", "head"])


def test_a_mean_over_unknown_axes_is_refused():
    """No guess where the channels are."""

    class Odd(nn.Module):
        def forward(self, x):
            return x.reshape(len(x), 7, -1)

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Odd(), nn.Flatten(), nn.Linear(196, 2))
    freeze(model, "[01]")

    with pytest.raises(SplitError, match=r"  1: it is not known which of its axes \(2 × 7 × 28\) holds the channels"):
        split(model, torch.randn(2, 3, 9, 9), at=["0", "1"], pool="mean")
    assert list(split(model, torch.randn(2, 3, 9, 9), at="[01]")[0](torch.randn(2, 3, 9, 9))) == ["0", "1"]


@pytest.mark.parametrize("options", [{"pool": "max", "at": "body"}, {"pool": "mean"}])
def test_a_pool_needs_layers_and_a_known_name(options):
    """Said before anything runs."""
    with pytest.raises(SplitError, match="pool"):
        split(*model_and_pictures(), **options)


def test_a_name_stands_for_the_layer_and_not_for_those_in_it():
    """As `at` is used with whole stages; an unfrozen stage is crossed by what is frozen in it."""
    model, x = model_and_pictures()
    assert list(split(model, x, at="body")[0](x)) == ["body"]

    freeze(model := Stages(), r"body\.0")

    assert list(split(model, x, at="body")[0](x)) == ["body.1"]


def test_stored_means_are_used_again_and_checked(tmp_path):
    """Keys, rows and canaries take the leaves as they take any."""
    model, x = model_and_pictures()
    data = (torch.randn(9, 3, 9, 9), torch.arange(9) % 2)
    trunk, _ = split(model, x, at=r"body\.[02]", pool="mean")

    first = cache_features(trunk, data, tmp_path, batch_size=4)
    again = cache_features(split(model, x, at=r"body\.[02]", pool="mean")[0], data, tmp_path, batch_size=4)

    assert (first.computed, again.computed, first.key) == (9, 0, again.key)
    assert set(again[0][0]) == {"mean(body.0)", "mean(body.2)", "relu"}
    assert first.key != cache_features(split(model, x, at="body.[02]|neck")[0], data, tmp_path).key
    torch.testing.assert_close(again.gather(torch.arange(9))[0], dict(trunk(data[0])), rtol=1e-5, atol=1e-6)  # batches
