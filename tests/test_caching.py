"""cache_features: each row once, never a wrong one."""

import hashlib
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from regraft.caches.options import Engine
from regraft.caching import cache_features
from regraft.contracts.preparation import Preparation
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.labelled import Labelled
from regraft.errors import CacheError, DataError, DoesNotPayError
from regraft.inputs import InputContract
from regraft.stores.folder import FolderStore
from regraft.stores.memory import MemoryStore
from trunks import HandTrunk, plainly, tiny_data, tiny_trunk

BATCH = 8


class Pairs(Dataset):
    """A plain data set of (input, label) pairs that counts what is asked of it."""

    def __init__(self, inputs, labels, transform=lambda x: x):
        self.inputs, self.labels_kept, self.transform, self.asked = inputs, labels, transform, 0

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.asked += 1
        return self.transform(self.inputs[index]), self.labels_kept[index]


@pytest.fixture(params=["none", "memory", "folder", "streamed"])
def store(request, tmp_path):
    """Every place where features can live."""
    return {
        "none": lambda: None,
        "memory": MemoryStore,
        "folder": lambda: tmp_path / "features",
        "streamed": lambda: FolderStore(tmp_path / "features", memory_bytes=0),
    }[request.param]()


@pytest.mark.parametrize("count", [3, 8, 40, 43])
def test_features_are_those_of_a_plain_loop(store, count):
    """Bit for bit, the short last batch included, in the data set's order."""
    trunk, (inputs, labels) = tiny_trunk(), tiny_data(count)

    features = cache_features(trunk, (inputs, labels), store, batch_size=BATCH)

    rows, told = features.gather(torch.arange(count))
    assert torch.equal(rows["hidden"], plainly(trunk, inputs, BATCH))
    assert torch.equal(told, labels)
    assert features.computed == count


def test_a_second_call_computes_nothing(tmp_path):
    """Only the canary runs."""
    data = tiny_data()
    first = cache_features(tiny_trunk(), data, tmp_path, batch_size=BATCH)
    trunk = tiny_trunk()

    again = cache_features(trunk, data, tmp_path, batch_size=BATCH)

    assert (again.computed, again.built.reused) == (0, 40)
    assert trunk.rows == Engine().canaries
    assert torch.equal(again.inputs["hidden"], first.inputs["hidden"])


def test_added_examples_alone_are_computed_and_order_does_not_matter(tmp_path):
    """Ten more images in a shuffled data set cost ten rows."""
    (inputs, labels), trunk = tiny_data(50), tiny_trunk()
    cache_features(trunk, (inputs[:40], labels[:40]), tmp_path, batch_size=BATCH)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))

    features = cache_features(trunk, (inputs[order], labels[order]), tmp_path, batch_size=BATCH)

    assert features.computed == 10
    expected = plainly(trunk, inputs[:48], BATCH)
    where = order < 48
    assert torch.equal(features.inputs["hidden"][where], expected[order[where]])


def test_an_edited_example_is_computed_again(tmp_path):
    """One value of one input is enough."""
    (inputs, labels), trunk = tiny_data(), tiny_trunk()
    cache_features(trunk, (inputs, labels), tmp_path, batch_size=BATCH)
    edited = inputs.clone()
    edited[17, 2] += 1

    features = cache_features(trunk, (edited, labels), tmp_path, batch_size=BATCH)

    assert features.computed == 1
    assert torch.equal(features.inputs["hidden"], plainly(trunk, edited, BATCH))
    edited[17, 2] = edited[17, 2].nextafter(torch.tensor(99.0))  # the smallest change that there is
    assert cache_features(trunk, (edited, labels), tmp_path, batch_size=BATCH).computed == 1


class Files:
    """Examples in files, known by their bytes."""

    def __init__(self, folder, count=24):
        self.paths = [folder / f"{number}.pt" for number in range(count)]
        for number, path in enumerate(self.paths):
            torch.save(torch.full((6,), float(number)), path)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.load(self.paths[index]), index % 2

    def content_ids(self, indices=None):
        """A hash of each file."""
        return [hashlib.sha256(self.paths[at].read_bytes()).hexdigest() for at in indices or range(len(self.paths))]


def test_an_example_that_is_edited_while_it_is_computed_is_refused(tmp_path):
    """Its row would be found under the name of what it was, for ever."""
    (tmp_path / "data").mkdir()
    data = Files(tmp_path / "data")

    class Editing(HandTrunk):
        def __call__(self, inputs):
            torch.save(torch.zeros(6), data.paths[5])  # known by now, read or not
            return super().__call__(inputs)

    trunk = Editing(tiny_trunk().module, (4,))
    with pytest.raises(CacheError, match=r"(?s)Example 5 was changed while the features were computed.*Run again"):
        cache_features(trunk, data, tmp_path / "features", batch_size=8)
    features = cache_features(tiny_trunk(), data, tmp_path / "features", batch_size=8)

    assert features.computed == 24
    with torch.no_grad():
        assert torch.equal(features[5][0]["hidden"], trunk.module(torch.zeros(1, 6))[0])


@pytest.mark.parametrize("edited", range(4))
def test_a_promise_that_is_broken_in_the_first_examples_is_noticed(tmp_path, edited):
    """By another preprocessing, mostly."""
    inputs, labels = tiny_data()
    cache_features(tiny_trunk(), (inputs, labels), tmp_path, data_id="flowers")
    changed = inputs.clone()
    changed[edited, 3] += 1
    assert cache_features(tiny_trunk(), (changed, labels), tmp_path, data_id="flowers").computed == 40


def test_other_labels_invalidate_nothing(tmp_path):
    """Labels are the data set's, each time."""
    (inputs, labels), trunk = tiny_data(), tiny_trunk()
    cache_features(trunk, (inputs, labels), tmp_path, batch_size=BATCH)

    features = cache_features(trunk, (inputs, labels + 1), tmp_path, batch_size=BATCH)

    assert features.computed == 0
    assert torch.equal(features.labels, labels + 1)


def test_other_weights_make_another_entry(tmp_path):
    """One changed weight is another key; the first entry stays."""
    data, trunk = tiny_data(), tiny_trunk()
    first = cache_features(trunk, data, tmp_path, batch_size=BATCH)
    with torch.no_grad():
        trunk.module[0].bias[0] = trunk.module[0].bias[0].nextafter(torch.tensor(99.0))  # the smallest change there is

    second = cache_features(trunk, data, tmp_path, batch_size=BATCH)

    assert second.computed == 40
    assert first.key != second.key


def test_equal_inputs_are_computed_once(tmp_path):
    """The same image twice, with two labels, is one row."""
    (inputs, _), trunk = tiny_data(20), tiny_trunk()

    features = cache_features(trunk, (torch.cat([inputs, inputs]), torch.arange(40)), tmp_path, batch_size=4)

    assert features.computed == 20
    assert torch.equal(features.inputs["hidden"][:20], features.inputs["hidden"][20:])
    assert torch.equal(features.labels, torch.arange(40))


def test_a_random_data_set_is_refused():
    """An augmentation is never frozen in silence."""
    inputs, labels = tiny_data()
    data = Pairs(inputs, labels, transform=lambda x: x + torch.rand(1))

    with pytest.raises(CacheError, match=r"(?s)draws at random.*Pass views=4 to store"):
        cache_features(tiny_trunk(), data)


@pytest.mark.parametrize("draw", [lambda: torch.rand(1).item(), random.random, lambda: np.random.rand()])
def test_a_rare_augmentation_is_found_out(draw):
    """The data set takes random numbers, so it is asked more often."""
    inputs, labels = tiny_data()
    data = Pairs(inputs, labels, transform=lambda x: -x if draw() < 0.08 else x)

    with pytest.raises(CacheError, match="draws at random"):
        cache_features(tiny_trunk(), data)


@pytest.mark.parametrize("seed", range(5))
def test_an_augmentation_of_the_rare_class_alone_is_found_out(seed):
    """2 % of a thousand examples, wherever they lie."""
    inputs, labels = torch.zeros(1000, 6), torch.zeros(1000, dtype=torch.int64)
    labels[torch.randperm(1000, generator=torch.Generator().manual_seed(seed))[:20]] = 2
    data = Pairs(torch.cat([inputs, labels[:, None]], 1), labels,
                 transform=lambda x: x[:6] + torch.rand(6) if x[6] == 2 else x[:6])  # fmt: skip

    with pytest.raises(CacheError, match="draws at random"):
        cache_features(tiny_trunk(), data)


def test_the_programs_random_numbers_are_left_alone(tmp_path):
    """Caching draws nothing from the generators that training uses."""
    (inputs, labels), trunk = tiny_data(), tiny_trunk()
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    cache_features(trunk, Pairs(inputs, labels, transform=lambda x: x + torch.rand(1)), tmp_path, views=2)

    assert torch.equal(torch.rand(3), expected)


def test_views_are_the_same_in_every_run_and_in_every_order(tmp_path):
    """The seed of a view comes from the example's content, not from its place."""
    inputs, labels = tiny_data()
    order = torch.arange(39, -1, -1)

    def noisy(x):
        return x + torch.rand(6)

    first = cache_features(tiny_trunk(), Pairs(inputs, labels, noisy), tmp_path, views=3, batch_size=BATCH)
    again = cache_features(
        tiny_trunk(), Pairs(inputs[order], labels[order], noisy), tmp_path, views=3, batch_size=BATCH
    )

    assert (first.computed, again.computed) == (120, 0)
    assert first.views == 3
    assert torch.equal(first.view(2).gather(order)[0]["hidden"], again.view(2).gather(torch.arange(40))[0]["hidden"])


def test_the_canary_refuses_rows_of_another_computation(tmp_path):
    """What the key cannot see: here a factor outside the module and its tensors."""
    data, trunk = tiny_data(), tiny_trunk()
    cache_features(trunk, data, tmp_path, batch_size=BATCH)
    plain = trunk.module.forward
    trunk.module.forward = lambda x: plain(x) * 1.01

    with pytest.raises(CacheError, match=r"(?s)not those of this trunk.*example \d+, hidden.*Clear the entry"):
        cache_features(trunk, data, tmp_path, batch_size=BATCH)


class Stated(Labelled):
    """Pairs that state their labels."""

    classes, ids = ("a", "b", "c"), ()

    def __init__(self, pairs, labels):
        self.pairs, self.labels = pairs, labels

    def __getitem__(self, index):
        return self.pairs[index]


def test_a_promise_about_the_data_spares_reading_it(tmp_path):
    """With data_id, and labels that the data set states, only the probes and the canary's rows are read."""
    inputs, labels = tiny_data(200)
    pairs = Pairs(inputs, labels)
    cache_features(tiny_trunk(), Stated(pairs, labels), tmp_path, batch_size=BATCH, data_id="digits-1")
    pairs.asked = 0

    features = cache_features(tiny_trunk(), Stated(pairs, labels), tmp_path, batch_size=BATCH, data_id="digits-1")

    assert features.computed == 0
    assert torch.equal(features.labels, labels)
    assert pairs.asked < 30


@pytest.mark.parametrize("change", [lambda y: y % 2, lambda y: 2 if y == 1 else y])
def test_labels_are_those_that_the_examples_have(tmp_path, change):
    """A `target_transform` changes what lies in `targets`, for the first example too or for others alone."""
    inputs, labels = tiny_data(60)
    labels = labels.sort().values
    data = Pairs(inputs, [change(int(label)) for label in labels])
    data.targets = labels
    for _ in range(2):
        features = cache_features(tiny_trunk(), data, tmp_path, batch_size=BATCH, data_id="digits-1")
        assert features.labels.tolist() == [change(int(label)) for label in labels]


def test_a_data_set_that_states_other_labels_than_it_gives_is_refused(tmp_path):
    """As soon as an example is read."""
    inputs, labels = tiny_data(60)
    wrong = labels.clone()
    wrong[50] += 1
    with pytest.raises(DataError, match="does not hold the labels of its examples"):
        cache_features(tiny_trunk(), Stated(Pairs(inputs, labels), wrong), tmp_path, data_id="digits-1")


def test_a_data_set_of_pairs_is_as_good_as_tensors(tmp_path):
    """Fetched example by example, collated, hashed: the same rows."""
    inputs, labels = tiny_data()
    trunk = tiny_trunk()
    cache_features(trunk, TensorDataset(inputs, labels), tmp_path, batch_size=BATCH)

    features = cache_features(trunk, Pairs(inputs, labels), tmp_path, batch_size=BATCH)

    assert features.computed == 0


@pytest.mark.parametrize(("precision", "relative"), [("bfloat16", 4e-3), ("float16", 5e-4), ("int8", 1e-2)])
def test_lower_precision_is_measured(store, precision, relative):
    """The stored rows are near the exact ones, and the report says how near."""
    trunk, (inputs, labels) = tiny_trunk(), tiny_data()

    features = cache_features(trunk, (inputs, labels), store, batch_size=BATCH, precision=precision)

    exact = plainly(trunk, inputs, BATCH)
    stored = features.gather(torch.arange(40))[0]["hidden"]
    assert stored.dtype == torch.float32
    assert 0 < (stored - exact).norm() / exact.norm() < relative
    assert 0 < features.built.rounding["hidden"].relative < relative


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"store": ""}, "store is an empty text"),
        ({"precision": "float8"}, "No precision 'float8'"),
        ({"views": 0}, "views is 0; expected 1 or more"),
    ],
)
def test_wrong_arguments_are_answered_with_the_right_ones(wrong, message):
    """Before anything is computed."""
    trunk = tiny_trunk()
    with pytest.raises(CacheError, match=message):
        cache_features(trunk, tiny_data(), **wrong)
    assert trunk.calls == 0


def test_a_filled_cache_is_used_without_decoding(tmp_path):
    """Image files vouch for their content by their bytes: only probes and canary are decoded."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(60):
            pixels = np.random.default_rng(index).integers(0, 256, (3, 2, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    contract = InputContract((1, 2), flatten=True)
    cache_features(
        tiny_trunk(), open_class_folder(tmp_path / "data", Preparation(contract)), tmp_path / "store", batch_size=BATCH
    )
    decoded = []
    data = open_class_folder(tmp_path / "data", Preparation(contract))
    data.contract = CountedContract(contract, decoded)

    features = cache_features(tiny_trunk(), data, tmp_path / "store", batch_size=BATCH)

    assert features.computed == 0
    assert len(decoded) < 30
    assert features.labels.tolist() == [0] * 60 + [1] * 60


class CountedContract:
    """An input contract that counts what it decodes."""

    def __init__(self, contract, decoded):
        self.contract, self.decoded = contract, decoded

    def to_dict(self):
        return self.contract.to_dict()

    def from_file(self, path):
        self.decoded.append(path)
        return self.contract.from_file(path)


def test_the_cost_is_told_before_the_build(tmp_path):
    """In one sentence; a filled store has nothing to tell."""
    told = []
    first = cache_features(tiny_trunk(), tiny_data(), tmp_path, batch_size=BATCH, tell=told.append)
    again = cache_features(tiny_trunk(), tiny_data(), tmp_path, batch_size=BATCH, tell=told.append)
    assert told == [str(first.cost)]
    assert re.match(r"Caching 40 examples takes about [\d.]+ \S+ and 640 bytes; it ", told[0])
    assert again.cost is None


def test_a_cache_that_does_not_pay_is_refused_before_the_build(tmp_path):
    """One epoch never pays; the store stays empty."""
    with pytest.raises(DoesNotPayError, match=r"(?s)Caching 40 examples.*training takes 1 epoch: train without"):
        cache_features(tiny_trunk(), tiny_data(), tmp_path, batch_size=BATCH, epochs=1)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_few_reused_rows_are_checked_too(tmp_path):
    """The look before the build missed them: they are looked at after it."""
    (inputs, labels), trunk = tiny_data(4000), tiny_trunk()
    cache_features(trunk, (inputs[:2], labels[:2]), tmp_path, batch_size=2)
    plain = trunk.module.forward
    trunk.module.forward = lambda x: plain(x) * 1.01
    with pytest.raises(CacheError, match="not those of this trunk"):
        cache_features(trunk, (inputs, labels), tmp_path, batch_size=2)
