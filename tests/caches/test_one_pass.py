"""Features of data that is read once."""

import pytest
import torch

from regraft.caches import one_pass
from regraft.caching import cache_features
from regraft.errors import CacheError
from trunks import plainly, tiny_data, tiny_trunk

INPUTS, LABELS = tiny_data(45)


def stream(inputs=INPUTS, labels=LABELS):
    """Pairs, one after the other."""
    yield from zip(inputs, labels.tolist(), strict=True)


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    """Several groups of this little data."""
    monkeypatch.setattr(one_pass, "GROUP_ROWS", 16)


@pytest.mark.parametrize("stored", [True, False])
def test_features_are_those_of_a_plain_loop(stored, tmp_path):
    """In the stream's order, with its labels."""
    trunk = tiny_trunk()
    features = cache_features(trunk, stream(), tmp_path if stored else None, batch_size=8)

    assert torch.equal(features.inputs["hidden"], plainly(trunk, INPUTS, 8))
    assert torch.equal(features.labels, LABELS)
    assert features.computed == 45


def test_a_second_pass_computes_what_is_new(tmp_path):
    """Examples are known again by their content, wherever they come in the stream."""
    cache_features(tiny_trunk(), stream(INPUTS[:30], LABELS[:30]), tmp_path, batch_size=8)
    again = cache_features(tiny_trunk(), stream(INPUTS.flip(0), LABELS.flip(0)), tmp_path, batch_size=8)
    assert again.computed == 15
    assert torch.equal(again.inputs["hidden"], plainly(tiny_trunk(), INPUTS.flip(0), 8))


def test_a_lower_precision_is_one_cache():
    """Without a store of the caller's."""
    features = cache_features(tiny_trunk(), stream(), precision="bfloat16", batch_size=8)
    assert len(features) == 45
    assert features.gather(torch.arange(45))[0]["hidden"].allclose(plainly(tiny_trunk(), INPUTS, 8), rtol=2**-8)


def test_features_larger_than_memory_stay_in_the_store(tmp_path):
    """And are read in the stream's order."""
    from regraft.stores.folder import FolderStore

    features = cache_features(tiny_trunk(), stream(), FolderStore(tmp_path, memory_bytes=0), batch_size=8)
    assert features.inputs is None
    assert torch.equal(features.gather(torch.arange(45))[0]["hidden"], plainly(tiny_trunk(), INPUTS, 8))


def test_random_draws_are_refused():
    """A stream cannot be read twice to see what they change."""

    def noisy():
        yield from ((row + torch.rand(1), 0) for row in INPUTS)

    with pytest.raises(CacheError, match="Random numbers were drawn from a global generator while the stream was read"):
        cache_features(tiny_trunk(), noisy())


@pytest.mark.parametrize("options", [{"views": 2}, {"data_id": "mine"}])
def test_what_needs_numbers_is_refused(options):
    """Views and promised ids."""
    with pytest.raises(CacheError, match=f"{next(iter(options))} needs examples that can be read by their number"):
        cache_features(tiny_trunk(), stream(), **options)


def test_an_empty_stream_is_refused():
    """A generator that was read before is empty."""
    with pytest.raises(CacheError, match="The stream has no example"):
        cache_features(tiny_trunk(), iter([]))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the closing of its files to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_streams_of_webdataset_and_hugging_face(tmp_path):
    """As these libraries make them: pairs, rows with names, shards written by WebDataset itself."""
    import webdataset

    import datasets

    with webdataset.TarWriter(str(tmp_path / "a.tar")) as shard:
        for number, (row, label) in enumerate(stream()):
            shard.write({"__key__": f"{number:05}", "x.pth": row, "cls": label})
    plain = plainly(tiny_trunk(), INPUTS, 8)
    shards = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode()
    rows = datasets.Dataset.from_dict({"x": INPUTS.tolist(), "label": LABELS.tolist()}).to_iterable_dataset()

    for data in (shards, shards.to_tuple("x.pth", "cls"), rows):
        features = cache_features(tiny_trunk(), data, batch_size=8)
        assert torch.equal(features.inputs["hidden"], plain)
        assert torch.equal(features.labels, LABELS)
