"""Features in files of other tools."""

import pytest
import torch
from pyarrow import parquet

import datasets
import regraft
from regraft.caching import cache_features
from regraft.errors import DataError, SaveError
from regraft.stores.folder import FolderStore
from trunks import tiny_data, tiny_trunk

INPUTS, LABELS = tiny_data(20)


@pytest.fixture
def whole(tmp_path):
    """Features with named classes."""
    made = cache_features(tiny_trunk(), (INPUTS, LABELS), tmp_path / "cache", batch_size=8)
    return made.with_labels(made.labels, classes=["a", "b", "c"])


@pytest.mark.parametrize("name", ["f.parquet", "f.arrow", "f.feather", "folder"])
def test_each_form_is_written_and_read(whole, tmp_path, name):
    """The same bits."""
    datasets.disable_progress_bars()
    whole.write(tmp_path / name)
    again = regraft.Features.read(tmp_path / name)
    assert torch.equal(again.inputs["hidden"], whole.inputs["hidden"])
    assert torch.equal(again.labels, LABELS)
    assert (again.classes, again.frozen, again.key) == (("a", "b", "c"), whole.frozen, whole.key)


def test_features_of_a_store_are_written_a_part_at_a_time(tmp_path, monkeypatch):
    """They need not fit into memory."""
    monkeypatch.setattr("regraft.caches.feature_files.SLICE_BYTES", 16 * 6)
    stored = cache_features(tiny_trunk(), (INPUTS, LABELS), FolderStore(tmp_path, memory_bytes=0), batch_size=8)
    stored.write(tmp_path / "f.parquet")
    again = regraft.Features.read(tmp_path / "f.parquet")
    assert parquet.ParquetFile(tmp_path / "f.parquet").num_row_groups == 4
    assert torch.equal(again.inputs["hidden"], stored.gather(torch.arange(20))[0]["hidden"])


def test_a_data_set_of_hugging_face_has_named_classes(whole):
    """And is features again, also without a file."""
    made = whole.to_datasets(ids=[f"example {number}" for number in range(20)])
    assert made.features["label"].names == ["a", "b", "c"]
    assert made[3]["id"] == "example 3"
    assert torch.equal(torch.tensor(made[3]["hidden"]), whole.inputs["hidden"][3])
    assert torch.equal(regraft.Features.read(made).inputs["hidden"], whole.inputs["hidden"])


def test_what_is_no_file_of_features_is_refused(whole, tmp_path):
    """With the forms that there are."""
    (tmp_path / "bad.arrow").write_bytes(b"no table")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    with pytest.raises(DataError, match=r"f.csv is no form of features. Expected .parquet, .arrow, .feather"):
        whole.write(tmp_path / "f.csv")
    with pytest.raises(DataError, match="There is no file"):
        regraft.Features.read(tmp_path / "none.parquet")
    with pytest.raises(DataError, match=r"bad.arrow cannot be read"):
        regraft.Features.read(tmp_path / "bad.arrow")
    with pytest.raises(SaveError, match="there"):
        whole.write(tmp_path / "there")
    with pytest.raises(DataError, match="data set holds no features that regraft wrote"):
        regraft.Features.read(datasets.Dataset.from_dict({"x": [1.0]}))
