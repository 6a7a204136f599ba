"""hf:… and timm:… as files on this machine; nothing is downloaded."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.numpy import save_file

from jobs import write_job
from regraft.errors import CheckpointError
from regraft.formats.hub_files import hub_file
from regraft.jobs.job import Job
from regraft.reading import open_checkpoint
from typed import typed

ARRAYS = {"fc.weight": np.ones((2, 3), np.float32)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of Hugging Face as its library lays it out: a repository of two revisions, with its config."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub/models--org--name"
    (repository / "refs").mkdir(parents=True)
    for ref, commit in (("main", "a" * 40), ("v1", "b" * 40)):
        (repository / "refs" / ref).write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        save_file(ARRAYS, repository / "snapshots" / commit / "model.safetensors")
        (repository / "snapshots" / commit / "config.json").write_text("{}")
    return repository


def test_an_id_is_the_file_in_the_cache(cache):
    """Of the main revision, or of another."""
    assert hub_file("hf:org/name").parent.name == "a" * 40
    assert hub_file("hf:org/name@v1").parent.name == "b" * 40
    assert list(open_checkpoint("hf:org/name")) == ["fc.weight"]


def test_an_index_of_shards_is_preferred(cache):
    """As the libraries do."""
    (cache / "snapshots" / ("a" * 40) / "model.safetensors.index.json").write_text("{}")
    assert hub_file("hf:org/name").name == "model.safetensors.index.json"


def test_a_folder_is_itself(tmp_path):
    """Relative to the given folder."""
    (tmp_path / "mine").mkdir()
    save_file(ARRAYS, tmp_path / "mine/model.safetensors")
    assert hub_file("hf:mine", tmp_path) == (tmp_path / "mine").resolve()
    assert list(open_checkpoint(f"hf:{tmp_path}/mine")) == ["fc.weight"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:org/none", "neither a folder nor in the local cache of Hugging Face. .* run hf download org/none,"),
        ("hf:org/name@v2", "run hf download org/name --revision v2,"),
        ("hf:a/b/c", "'a/b/c' is no id of a repository"),
    ],
)
def test_what_is_not_there_is_refused_with_the_command(cache, spec, message):
    """That downloads it."""
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(spec)


def timm_of(monkeypatch, **config):
    """timm with one model of this configuration."""

    def get_pretrained_cfg(name, allow_unregistered):
        if name != "tiny":
            raise RuntimeError("unknown")
        return SimpleNamespace(**{"file": None, "hf_hub_id": None, "hf_hub_filename": None, "url": "", **config})

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(get_pretrained_cfg=get_pretrained_cfg))


def test_weights_of_timm_are_where_timm_keeps_them(cache, tmp_path, monkeypatch):
    """A file of its own, the cache of Hugging Face, torch's."""
    timm_of(monkeypatch, hf_hub_id="org/name")
    assert hub_file("timm:tiny").parent.name == "a" * 40
    timm_of(monkeypatch, file=str(cache / "refs/main"))
    assert hub_file("timm:tiny").name == "main"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/tiny.pth").touch()
    timm_of(monkeypatch, url="somewhere/tiny.pth")
    assert hub_file("timm:tiny").name == "tiny.pth"


def test_weights_that_timm_has_not_downloaded_are_refused(cache, monkeypatch):
    """With the call that downloads them; an unknown name with timm's list."""
    timm_of(monkeypatch, hf_hub_id="org/none")
    with pytest.raises(CheckpointError, match=r"timm.create_model\('tiny', pretrained=True\) does it"):
        hub_file("timm:tiny")
    with pytest.raises(CheckpointError, match="timm has no weights of the name other: unknown"):
        hub_file("timm:other")


def test_a_job_and_the_command_line_take_such_names(cache, tmp_path):
    """As the path of the checkpoint."""
    job = Job.from_file(write_job(tmp_path), ['checkpoint.path="hf:org/name"'])
    assert job.path(job.checkpoint.path).parent.name == "a" * 40
    assert "fc.weight" in typed("show", "hf:org/name").output
