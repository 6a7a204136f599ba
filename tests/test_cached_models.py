"""The cache under models that are really split: the same bits, and another key for another computation."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from regraft.caches import differences as cache_differences
from regraft.caches.options import Engine
from regraft.caching import cache_features
from regraft.cuts.row_rounding import same_rows
from regraft.datasets.array_file import ArrayExamples
from regraft.datasets.augmented import Augmented
from regraft.datasets.labelled import Target
from regraft.errors import CacheError, TrainError
from regraft.freezing import freeze
from regraft.learning.solvers import Steps
from regraft.splitting import Trunk, split
from regraft.stores.folder import FolderStore
from regraft.training import train
from small_models import RoundsByIndex, on_grid, same_weights, three_classes

IMAGES = (8 * torch.randn(22, 3, 6, 6, generator=torch.Generator().manual_seed(1))).round() / 8  # as `on_grid` asks
LABELS = torch.arange(22) % 3
BATCH = 4


class Convolutions(nn.Module):
    """Convolution, BatchNorm, pooling; a head of dropout and a linear layer."""

    def __init__(self, *, eps: float = 1e-5, stride: int = 1, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        torch.manual_seed(0)
        self.conv, self.norm = on_grid(nn.Conv2d(3, 4, 3, stride=stride)), nn.BatchNorm2d(4, eps=eps)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean((2, 3)) * self.gain))


class OtherForward(Convolutions):
    """The same layers, called in another way."""

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).abs().mean((2, 3))))


class TwoInputs(nn.Module):
    """A dictionary in, a dictionary out, and a mask that the head needs too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.mix = on_grid(nn.Embedding(10, 6)), on_grid(nn.Linear(6, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, ids, mask):
        return {"logits": (self.head(self.mix(self.table(ids)).relu()) * mask[..., None]).sum(1)}


def halves(model, frozen="conv|norm"):
    """Trunk and head of a model with these layers frozen."""
    freeze(model, frozen)
    return split(model, IMAGES[:2])


def cached(model, store=None, **options):
    """The features of a model's trunk for the images."""
    return cache_features(halves(model)[0], (IMAGES, LABELS), store, batch_size=BATCH, **options)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_head_on_cached_features_is_the_model(tmp_path, is_training):
    """Bit for bit in both modes: with dropout drawn, and in evaluation, where a dropout layer hands its input on."""
    model = Convolutions()
    trunk, head = halves(model)
    features = cache_features(trunk, (IMAGES, LABELS), tmp_path, batch_size=BATCH)
    model.train(is_training)
    rows, _ = features.gather(torch.arange(BATCH))

    torch.manual_seed(3)
    expected = model(IMAGES[:BATCH])
    torch.manual_seed(3)
    assert torch.equal(head(rows), expected)


def test_a_dictionary_of_inputs_keeps_its_names(tmp_path):
    """Several tensors an example cross, the mask among them."""
    model = TwoInputs().eval()
    freeze(model, "table|mix")
    ids = torch.arange(60).view(12, 5) % 10
    data = ({"ids": ids, "mask": (ids > 3).float()}, torch.arange(12) % 2)
    trunk, head = split(model, ids=ids[:3], mask=data[0]["mask"][:3])

    features = cache_features(trunk, data, tmp_path, batch_size=BATCH)

    assert torch.equal(head(features.gather(torch.arange(BATCH))[0])["logits"],
                       model(ids=ids[:BATCH], mask=data[0]["mask"][:BATCH])["logits"])  # fmt: skip


def test_a_model_built_again_finds_its_features(tmp_path):
    """The key depends on nothing of this process."""
    assert cached(Convolutions(), tmp_path).computed == 22
    assert cached(Convolutions(), tmp_path).computed == 0


@pytest.mark.parametrize(
    "other",
    [lambda: Convolutions(eps=1e-3), lambda: Convolutions(stride=2), lambda: Convolutions(gain=2.0), OtherForward],
    ids=["eps", "stride", "gain", "forward"],
)  # fmt: skip
def test_a_model_that_computes_differently_has_another_key(tmp_path, other):
    """With the very same weights."""
    assert cached(other(), tmp_path).key != cached(Convolutions(), tmp_path).key


@pytest.mark.parametrize("changed", ["conv.weight", "norm.bias", "norm.running_var"])
def test_any_frozen_tensor_is_part_of_the_key(tmp_path, changed):
    """Buffers as well as parameters."""
    model = Convolutions()
    with torch.no_grad():
        model.state_dict(keep_vars=True)[changed].view(-1)[1] += 1e-6
    assert cached(model, tmp_path).key != cached(Convolutions(), tmp_path).key


def test_training_the_head_leaves_the_key_alone(tmp_path):
    """As does another head of the same shape."""
    model = Convolutions()
    key = cached(model, tmp_path).key
    with torch.no_grad():
        model.head.weight += 1
    assert cached(model, tmp_path).key == key


def test_the_modes_of_torch_are_part_of_the_key(tmp_path):
    """Autocast changes every value."""
    plain = cached(Convolutions(), tmp_path).key
    with torch.autocast("cpu", torch.bfloat16):
        assert cached(Convolutions(), tmp_path).key != plain


class Sentences(torch.utils.data.Dataset):
    """Token ids of different lengths with their masks."""

    lengths = (3, 7, 5, 4, 6, 7, 3, 5, 4, 6)

    def __init__(self, order=range(10)):
        self.order = list(order)

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        number = self.order[index]
        ids = torch.randint(1, 10, (self.lengths[number],), generator=torch.Generator().manual_seed(number))
        return {"ids": ids, "mask": torch.ones(len(ids))}, number % 2


class Shortened(Sentences):
    """Sentences of which each draw keeps another beginning."""

    def __getitem__(self, index):
        inputs, label = super().__getitem__(index)
        length = int(torch.randint(1, len(inputs["ids"]) + 1, ()))
        return {name: tensor[:length] for name, tensor in inputs.items()}, label


def sentence_halves():
    """Model, trunk and head; the trunk's features vary with the sentence's length, and so does the mask."""
    model = TwoInputs().eval()
    freeze(model, "table|mix")
    return model, *split(model, ids=torch.ones(2, 4, dtype=torch.int64), mask=torch.ones(2, 4))


def alone(model, inputs):
    """The model's output for one sentence."""
    return model(ids=inputs["ids"][None], mask=inputs["mask"][None])["logits"][0]


@pytest.mark.parametrize(("precision", "atol"), [("float32", 1e-6), ("bfloat16", 0.02), ("int8", 0.02)])
@pytest.mark.parametrize("store", ["none", "folder", "streamed", "remote"])
def test_sentences_of_different_lengths_keep_their_masks(tmp_path, store, precision, atol):
    """Shorter ones end in zeros; the head gives what the model gives for the sentence alone."""
    model, trunk, head = sentence_halves()
    place = {"none": None, "folder": tmp_path, "streamed": FolderStore(tmp_path, memory_bytes=0),
             "remote": FolderStore(f"memory://{tmp_path.name}/ragged", memory_bytes=0)}[store]  # fmt: skip

    features = cache_features(trunk, Sentences(), place, batch_size=3, precision=precision)

    assert features.labels.tolist() == [number % 2 for number in range(10)]
    for indices, rows, _ in features.batches(4, epoch=1):
        longest = max(Sentences.lengths[number] for number in indices.tolist())
        assert {leaf.shape[1] for leaf in rows.values()} == {longest}
        for number, got in zip(indices.tolist(), head(rows)["logits"], strict=True):
            expected = alone(model, Sentences()[number][0])
            assert torch.allclose(got, expected, atol=atol)  # other lengths, other order of sums; or rounded


@pytest.mark.parametrize("store", ["none", "folder"])
def test_sentences_that_fit_into_memory_come_in_the_order_of_their_data_set(tmp_path, store):
    """So that a head on them and its whole model train alike."""
    _, trunk, _ = sentence_halves()
    features = cache_features(trunk, Sentences(), None if store == "none" else tmp_path, batch_size=3)
    dense = cache_features(halves(Convolutions())[0], (IMAGES[:10], LABELS[:10]))
    assert torch.equal(features.order(1, seed=4), dense.order(1, seed=4))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_sentence_takes_the_bytes_of_its_own_length(tmp_path, precision):
    """Of each word six values and one of the mask; of each row the shapes."""
    _, trunk, _ = sentence_halves()
    features = cache_features(
        trunk, Sentences(), FolderStore(tmp_path, memory_bytes=0), batch_size=3, precision=precision
    )

    words = sum(Sentences.lengths)
    assert features.bytes == words * 7 * (4 if precision == "float32" else 2) + 10 * 2 * 2 * 4
    assert cache_features(trunk, Sentences(), batch_size=3).bytes == words * 7 * 4 + 10 * 2 * 2 * 8


@pytest.mark.parametrize("store", ["folder", "streamed"])
def test_views_of_sentences_keep_their_lengths(tmp_path, store):
    """Two views of an example may be of different lengths; in another order they are the same."""
    model, trunk, head = sentence_halves()
    place = FolderStore(tmp_path, memory_bytes=None if store == "folder" else 0)

    features = cache_features(trunk, Shortened(), place, batch_size=3, views=3)
    again = cache_features(trunk, Shortened([9, 0, 4, 1]), place, batch_size=3, views=3)

    assert (features.views, again.computed) == (3, 0)
    for epoch in range(3):
        seen = features.for_epoch(epoch)
        for at, number in enumerate([9, 0, 4, 1]):
            rows = seen.gather(torch.tensor([number]))[0]
            assert 1 <= rows["relu"].shape[1] <= Sentences.lengths[number]
            full = {name: tensor[: rows["relu"].shape[1]] for name, tensor in Sentences()[number][0].items()}
            assert torch.allclose(head(rows)["logits"][0], alone(model, full), atol=1e-6)  # other order of sums
            assert any(torch.equal(rows["relu"], again.view(view).gather(torch.tensor([at]))[0]["relu"])
                       for view in range(3))  # fmt: skip


def test_a_head_is_trained_on_sentences_as_they_are_streamed(tmp_path):
    """The same losses as from memory: batches are as long as their longest sentence in both."""
    losses = []
    for place in (None, FolderStore(tmp_path, memory_bytes=0)):
        torch.manual_seed(0)
        _, trunk, head = sentence_halves()
        features = cache_features(trunk, Sentences(), place, batch_size=3)
        history = train(
            head, features, loss=first_logit, solver=Steps(epochs=2, order=lambda epoch: torch.arange(10).split(4))
        )
        losses.append(history.train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # built in other company, so other orders of sums


def first_logit(outputs, labels):
    """A loss for a model that gives a dictionary."""
    return nn.functional.cross_entropy(outputs["logits"], labels)


def test_a_sentence_is_known_whatever_it_was_padded_to(tmp_path):
    """In another order and other company nothing is computed again."""
    model = TwoInputs().eval()
    freeze(model, "table|mix")
    trunk, _ = split(model, ids=torch.ones(2, 4, dtype=torch.int64), mask=torch.ones(2, 4))
    cache_features(trunk, Sentences(), tmp_path, batch_size=3)

    assert cache_features(trunk, Sentences([9, 0, 4, 1]), tmp_path, batch_size=3).computed == 0


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("store", ["none", "folder", "streamed"])
def test_features_of_a_deeper_cut_are_computed_from_these(tmp_path, store, views):
    """They are those that the inputs give, view by view, and are kept in the same place."""
    place = {"none": None, "folder": tmp_path, "streamed": FolderStore(tmp_path, memory_bytes=0)}[store]
    data = (
        Augmented(ArrayExamples(IMAGES, LABELS, Target("classification", classes=tuple("abc"))))
        if views > 1
        else (IMAGES, LABELS)
    )
    model = Convolutions()
    trunk, head = halves(model, "conv")
    features = cache_features(trunk, data, place, batch_size=BATCH, views=views)
    freeze(model, "norm")
    part, _ = head.recut()

    deeper = features.deeper(part)

    straight = cache_features(split(model, IMAGES[:2])[0], data, None, batch_size=BATCH, views=views)
    assert (len(deeper), deeper.views) == (22, views)
    assert torch.equal(deeper.labels, LABELS)
    for epoch in range(views):
        rows, expected = (each.for_epoch(epoch).gather(torch.arange(22))[0] for each in (deeper, straight))
        assert all(torch.equal(rows[name], expected[name]) for name in expected)
    again = features.deeper(part)
    assert again.computed == (22 * views if store == "none" else 0)


def rounded_by_index(make=RoundsByIndex):
    """A model whose frozen layer rounds a row by its index in the batch (or is exact: nn.Linear), and data."""
    torch.manual_seed(0)
    model = nn.Sequential(on_grid(make(4, 8)), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    freeze(model, "0")
    return model, three_classes(22)


def test_a_trunk_that_rounds_rows_by_their_index_is_measured():
    """On the example: by one bit of the largest value at most, and not at all where sums are exact."""
    model, (inputs, _) = rounded_by_index()
    exact, _ = rounded_by_index(nn.Linear)
    assert 0 < split(model, inputs[:2])[0].cut.row_rounding <= 2**-23
    assert split(exact, inputs[:2])[0].cut.row_rounding == 0.0


class RoundsTenByIndex(RoundsByIndex):
    """Batches of ten rows alone, as matrix products on two threads do: each thread has five, and rounds the fifth."""

    def forward(self, x):
        return super().forward(x) if len(x) == 10 else nn.Linear.forward(self, x)


def test_the_batch_size_of_the_features_is_measured_too():
    """The example's size and the default one may be without difference."""
    model, data = rounded_by_index(RoundsTenByIndex)
    trunk, _ = split(model, data[0][:2])
    assert trunk.cut.row_rounding == 0.0
    assert cache_features(trunk, data, batch_size=8).cut.row_rounding == 0.0
    assert cache_features(trunk, data, batch_size=10).cut.row_rounding > 0.0


def test_rows_in_another_order_are_equal_within_the_measured_bound(tmp_path):
    """A store computes them in an order of its own. In batches of the same composition they are equal bit for bit."""
    model, data = rounded_by_index()
    trunk, _ = split(model, data[0][:2])
    in_order, stored = (cache_features(trunk, data, place, batch_size=BATCH) for place in (None, tmp_path))
    rows, others = (features.gather(torch.arange(22))[0] for features in (in_order, stored))
    expected = trunk(data[0][:BATCH])
    for name, values in expected.items():
        assert torch.equal(rows[name][:BATCH], values)
        assert not torch.equal(rows[name], others[name])
        assert same_rows(rows[name], others[name], trunk.cut.row_tolerance)


@pytest.mark.parametrize("make", [RoundsByIndex, nn.Linear])
def test_the_canary_allows_what_was_measured_and_no_more(tmp_path, monkeypatch, make):
    """Beside that it is as strict as ever; here it allows nothing else."""
    monkeypatch.setattr(cache_differences, "TOLERANCE", 0.0)
    model, data = rounded_by_index(make)
    trunk, _ = split(model, data[0][:2])
    engine = Engine(canaries=22)
    cache_features(trunk, data, tmp_path, batch_size=BATCH)

    assert cache_features(trunk, data, tmp_path, batch_size=BATCH, engine=engine).computed == 0
    monkeypatch.setattr(Trunk, "cut_for", lambda self, _: replace(self.cut, row_rounding=0.0))
    if make is RoundsByIndex:
        with pytest.raises(CacheError, match="not those of this trunk"):
            cache_features(trunk, data, tmp_path, batch_size=BATCH, engine=engine)
    else:
        assert cache_features(trunk, data, tmp_path, batch_size=BATCH, engine=engine).computed == 0


def test_training_on_rounded_rows_is_bit_for_bit_the_same_in_batches_of_the_same_examples():
    """In any order of the batches; a deeper cut is proven, too."""
    (model, data), (other, _) = rounded_by_index(), rounded_by_index()
    _, head = split(model, data[0][:2])
    features = cache_features(head.trunk, data, batch_size=BATCH)
    batches = torch.arange(22).split(BATCH)
    steps = Steps(epochs=3, order=lambda epoch: batches[epoch:] + batches[:epoch])

    cached, uncached = train(head, features, solver=steps), train(other, data, solver=steps)

    assert cached.train_loss == uncached.train_loss
    assert same_weights(model.state_dict(), other.state_dict())
    freeze(model, "2")
    part, _ = head.recut()
    assert part.cut.row_rounding > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.conv.weight.data.view(-1)[3:4].add_(1e-6),
        lambda model: model.norm.running_mean.add_(0.1),
        lambda model: model.conv.weight.requires_grad_(True),
    ],
    ids=["one element", "statistics", "trainable again"],
)
def test_a_head_is_not_trained_on_features_of_other_weights(tmp_path, change):
    """They are those of a model that is no more; what is computed again is."""
    model = Convolutions()
    _, head = halves(model)
    features = cached(model, tmp_path)
    change(model)

    with pytest.raises(TrainError, match=r"(?s)do not belong to this model any more.*: (conv|norm)\..*call"):
        train(head, features, solver=Steps(epochs=1))

    model.conv.weight.requires_grad_(False)
    trunk, head = halves(model)
    train(head, cache_features(trunk, (IMAGES, LABELS), tmp_path, batch_size=BATCH), solver=Steps(epochs=1))


def test_weights_that_change_while_features_are_computed_are_told(tmp_path):
    """By another thread, or by the data set."""
    model = Convolutions()
    trunk, _ = halves(model)

    class Meddling(torch.utils.data.Dataset):
        def __len__(self):
            return 22

        def __getitem__(self, index):
            if index == 21:
                model.conv.weight.data.add_(1e-3)
            return IMAGES[index], 0

    with pytest.raises(CacheError, match=r"(?s)Frozen weights changed while the features were computed.*Clear the ent"):
        cache_features(trunk, Meddling(), tmp_path, batch_size=BATCH)
