"""Tar shards in WebDataset's form."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.caching import cache_features
from regraft.contracts.preparation import Preparation
from regraft.datasets.opening import has_data, open_data
from regraft.datasets.shards import read_shards, shards_of
from regraft.errors import DataError
from regraft.inputs import InputContract
from trunks import HandTrunk

CONTRACT = Preparation(InputContract((4, 4)))


def image(value: int) -> bytes:
    """A small image of one colour."""
    content = io.BytesIO()
    Image.fromarray(np.full((5, 6, 3), value, np.uint8)).save(content, "PNG")
    return content.getvalue()


def write_shard(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar file of these files, in order."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    """Two shards of three images each, of two classes."""
    for shard in range(2):
        files = {}
        for number in range(3):
            files[f"{number}.png"] = image(40 * (3 * shard + number))
            files[f"{number}.cls"] = b"1" if number == 2 else b"0"
        write_shard(tmp_path / f"train-{shard:03}.tar", files)
    return tmp_path


def test_a_pattern_names_shards(shards):
    """A folder, a file, a star, braces; one that does not exist is named."""
    both = [shards / "train-000.tar", shards / "train-001.tar"]
    for path in (shards, shards / "train-*.tar", shards / "train-{000..001}.tar", shards / "train-{000,001}.tar"):
        assert shards_of(path) == both
    assert shards_of(both[0]) == both[:1]
    assert not has_data(shards / "test-*.tar")
    with pytest.raises(DataError, match=r"names shards that do not exist: .*train-002.tar"):
        open_data(shards / "train-{000..002}.tar", CONTRACT)


def test_a_folder_of_class_folders_is_none_of_shards(shards):
    """Even where the archive that it came from lies in it."""
    (shards / "cache").mkdir()
    assert len(shards_of(shards)) == 2
    (shards / "cache/1.png").touch()
    assert shards_of(shards) == []


def test_examples_are_images_with_their_classes(shards):
    """Labels are known before an image is decoded."""
    data = open_data(shards, CONTRACT)
    assert data.labels.tolist() == [0, 0, 1, 0, 0, 1]
    assert data.classes == ("0", "1")
    assert data.ids[4] == "train-001.tar/1.png"
    assert data[4][0][0, 0, 0] > data[3][0][0, 0, 0] > data[0][0][0, 0, 0]


def test_ids_are_places_and_change_with_the_shard(shards, monkeypatch):
    """No image is read for them."""
    data = open_data(shards, CONTRACT)
    monkeypatch.setattr("regraft.datasets.shards.ShardMember.read", None)
    before = data.content_ids()
    write_shard(shards / "train-001.tar", {"0.png": image(1), "0.cls": b"0"})
    after = data.content_ids()
    assert before[:3] == after[:3]
    assert not set(before[3:]) & set(after[3:])


def test_a_filled_cache_decodes_only_what_it_checks(shards, tmp_path):
    """The labels come from the .cls files."""
    trunk = HandTrunk(torch.nn.Flatten(), (48,))
    first, again = (cache_features(trunk, open_data(shards, CONTRACT), tmp_path / "f") for _ in range(2))
    assert (first.computed, again.computed) == (6, 0)
    assert torch.equal(first.inputs["hidden"], again.inputs["hidden"])


def test_texts_and_values_are_columns(tmp_path):
    """Of .txt and .json files; a name that is taken keeps its own."""
    files = {}
    for number in range(2):
        files[f"a/{number}.txt"] = f"text {number}\n".encode()
        files[f"a/{number}.json"] = json.dumps({"label": "x", "size": number}).encode()
        files[f"a/{number}.cls"] = b"7"
    columns = read_shards(write_shard(tmp_path / "t.tar", files))
    assert columns == {
        "text": ["text 0", "text 1"], "label": ["7", "7"], "json.label": ["x", "x"], "size": [0, 1]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.png": b"", "0.cls": b"1", "1.png": b""}, r"1 example has no label, which others have: 1.png"),
        ({"0.png": b"", "0.jpg": b""}, r"0.jpg is the second image of its example"),
        ({"0.json": b"[1]"}, r"0.json is a list, expected an object"),
        ({"0.json": b"{"}, r"0.json is no JSON"),
        ({"0.txt": b"\xff"}, r"0.txt is no text in UTF-8"),
        ({}, r"has no examples. Expected files such as 0001.jpg and 0001.cls"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, files, message):
    """With the shard and the file."""
    with pytest.raises(DataError, match=message):
        read_shards(write_shard(tmp_path / "t.tar", files))


def test_damaged_and_compressed_shards_are_named(shards):
    """A compressed file has no places."""
    import gzip

    path = shards / "train-000.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"cannot be read as a tar file: .*gunzip train-000.tar"):
        open_data(shards, CONTRACT)


def test_a_shard_that_is_written_again_is_named(shards):
    """While it is open: the same place may hold another image."""
    images = read_shards(shards)["image"]
    write_shard(shards / "train-001.tar", {"0.png": image(1), "0.cls": b"0"})
    with pytest.raises(DataError, match=r"train-001.tar has changed since it was opened, so 2.png may be elsewhere"):
        images[5]


def test_sounds_in_shards_are_refused(tmp_path):
    """They are read from files on disk."""
    from regraft.contracts.sound import SoundContract

    path = write_shard(tmp_path / "t.tar", {"0.wav": b"RIFF", "0.cls": b"0", "1.wav": b"RIFF", "1.cls": b"1"})
    with pytest.raises(DataError, match="holds the bytes of its sounds"):
        open_data(path, Preparation(sound=SoundContract(rate=8000, column="wav")))
