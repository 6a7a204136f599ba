"""A saved model can be loaded by regraft, and by torch and safetensors alone."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from in_memory import checkpoint_of, keras_arrays_of
from regraft.arrays import Requirement
from regraft.errors import SaveError
from regraft.inputs import InputContract
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.saving import Factory, load, read_record, save

NET = "from torch import nn\ndef net(width=3):\n    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))\n"


def net(width=3):
    """The same network as in the factory's file."""
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


class Tied(nn.Module):
    """Two layers that share one weight; can be built without arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


@pytest.fixture
def factory(tmp_path):
    """A factory's file that may vanish after saving."""
    (tmp_path / "net.py").write_text(NET)
    return Factory("net.py:net", {"width": 5}, tmp_path)


def test_a_model_comes_back_bit_for_bit_even_when_its_factory_is_gone(tmp_path, factory):
    """The folder can be moved: it carries the factory's file."""
    model = net(5)
    save(model, tmp_path / "saved", factory=factory)
    (tmp_path / "net.py").unlink()
    (tmp_path / "saved").rename(tmp_path / "moved")

    loaded = load(tmp_path / "moved")

    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


class Normed(nn.Sequential):
    """Can be built without arguments; its convolution has no bias."""

    def __init__(self):
        super().__init__(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3))

    def forward(self, x):
        return self[1](self[0](x).relu())  # nothing that a bias could be folded through


def adopting_plan(model):
    """A plan that gives the model another eps and a bias."""
    theirs = Normed()
    theirs[0].bias = nn.Parameter(torch.randn(3))
    source = checkpoint_of(
        keras_arrays_of(dict(theirs.named_children())),
        layout="tensorflow",
        requirements=(Requirement("1", "eps", 0.25), Requirement("0", "use_bias", True)),
    )
    plan = plan_reuse(source, model, adopt=".*")
    apply_plan(plan, source, model)
    return plan


def test_what_a_plan_adopted_is_there_again_after_loading(tmp_path):
    """Without its eps and its bias the same weights are another function."""
    model = Normed().eval()
    save(model, tmp_path / "saved", plan=adopting_plan(model))

    loaded = load(tmp_path / "saved")

    x = torch.randn(1, 2, 4, 4)
    assert (loaded[1].eps, loaded[0].bias is not None) == (0.25, True)
    assert torch.equal(loaded(x), model(x))
    assert torch.equal(load(tmp_path / "saved", model=model)(x), loaded(x))


def test_a_model_that_does_not_fit_gets_nothing_adopted(tmp_path):
    model = Normed()
    save(model, tmp_path / "saved", plan=adopting_plan(model))
    other = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4))

    with pytest.raises(SaveError, match="does not fit the model"):
        load(tmp_path / "saved", model=other)

    assert (other[1].eps, other[0].bias) == (1e-5, None)


def test_torch_and_safetensors_alone_load_the_weights(tmp_path):
    """No regraft needed, ties included."""
    model = Tied()
    save(model, tmp_path / "saved")
    twin = Tied()
    twin.load_state_dict(load_file(tmp_path / "saved/model.safetensors"), strict=True)
    assert torch.equal(twin.second.weight, model.first.weight)


def test_a_class_that_builds_itself_needs_no_factory(tmp_path):
    """Found by trying, without disturbing the random numbers drawn afterwards."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    model = Tied()
    torch.manual_seed(0)
    save(model, tmp_path / "saved")
    assert torch.equal(torch.rand(3), expected)
    record = json.loads((tmp_path / "saved/regraft.json").read_text())
    assert record["model"]["factory"].endswith("test_saving:Tied")


def test_a_model_without_a_factory_is_loaded_into_the_users_own(tmp_path):
    """And the error says so when it is missing."""
    save(net(), tmp_path / "saved")
    with pytest.raises(SaveError, match=r"does not record how to build its model[\s\S]*load\(folder, model=my_model\)"):
        load(tmp_path / "saved")
    assert isinstance(load(tmp_path / "saved", model=net()), nn.Sequential)


def test_the_provenance_names_file_hash_source_and_operations(tmp_path, factory):
    """For each array; what was not restored says that it began here."""
    import numpy as np

    from regraft.reading import open_checkpoint

    np.savez(tmp_path / "theirs.npz", **{"0/kernel": np.ones((2, 3), np.float32), "0/bias": np.zeros(3, np.float32)})
    model, checkpoint = net(), open_checkpoint(tmp_path / "theirs.npz")
    plan = plan_reuse(checkpoint, model, reuse="0", layout="tensorflow")
    apply_plan(plan, checkpoint, model)
    save(model, tmp_path / "saved", plan=plan, classes=["a", "b", "c"], inputs=InputContract((2, 2)))

    saved = read_record(tmp_path / "saved")
    weight = saved.provenance["arrays"]["0.weight"]
    assert (weight["sources"], weight["operations"]) == (["0/kernel"], ["(in, out) -> (out, in)"])
    assert saved.provenance["arrays"]["1.weight"] == {"origin": "initialised here"}
    assert len(saved.provenance["files"]["theirs.npz"]) == 64
    assert (saved.classes, saved.inputs) == (("a", "b", "c"), InputContract((2, 2)))
    assert (tmp_path / "saved/plan.json").read_text() == plan.to_json()


def test_another_model_is_left_as_it_was_and_every_misfit_is_named(tmp_path):
    """All at once."""
    save(net(3), tmp_path / "saved")
    other = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    before = other[0].weight.clone()
    with pytest.raises(SaveError, match=r"1.weight: the model does not have it[\s\S]*0.weight: expected \(4, 2\)"):
        load(tmp_path / "saved", model=other)
    assert torch.equal(other[0].weight, before)


def test_changed_weights_are_noticed(tmp_path):
    """One flipped bit."""
    save(net(), tmp_path / "saved")
    path = tmp_path / "saved/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SaveError, match=r"model.safetensors is not the file that was saved: its SHA-256 differs"):
        load(tmp_path / "saved", model=net())


@pytest.mark.parametrize(
    "content",
    ["", "{", "3", "[]", '{"inputs": 3}', '{"sha256": 3}', '{"sha256": "a", "classes": "ab"}', "[" * 100_000,
     "1" * 5000, '{"sha256": "a", "model": []}', '{"sha256": "a", "inputs": {"sise": 3}}',
     '{"sha256": "a", "adopted": [{}]}', '{"sha256": "a", "model": {"factory": 3}}', b"\xff"],
)  # fmt: skip
def test_a_damaged_record_is_named(tmp_path, content):
    """Whatever its form."""
    (tmp_path / "regraft.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SaveError, match=r"regraft\.json is damaged"):
        read_record(tmp_path)


def test_a_folder_that_is_not_a_saved_model_is_named(tmp_path):
    """Nothing there, no record in it, or a pipe that would be read for ever."""
    for folder in ("none", "empty", "pipe"):
        if folder != "none":
            (tmp_path / folder).mkdir()
        if folder == "pipe":
            os.mkfifo(tmp_path / folder / "regraft.json")
        with pytest.raises(SaveError, match=rf"{folder} is not a saved model: it has no file regraft\.json"):
            load(tmp_path / folder)


def test_models_saved_before_load_as_they_did(tmp_path, factory):
    """A record of version 0.1: no modules, lists for tuples, words that are no longer written."""
    save(net(5), tmp_path / "saved", factory=factory, classes=["a"], inputs=InputContract(8))
    path = tmp_path / "saved/regraft.json"
    record = json.loads(path.read_text())
    del record["model"]["modules"]
    record["model"]["word"] = record["word"] = "of another version"
    path.write_text(json.dumps(record))
    assert load(tmp_path / "saved")[0].out_features == 5
    assert read_record(tmp_path / "saved").inputs == InputContract((8, 8))


BLOCKS = "from torch import nn\ndef body():\n    return nn.Sequential(nn.Linear(2, 3), nn.ReLU())\n"


@pytest.fixture
def with_neighbour(tmp_path):
    """A factory's file that imports a module beside it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "blocks_of_a_test.py").write_text(BLOCKS)
    (source / "net.py").write_text("from blocks_of_a_test import body\ndef net():\n    return body()\n")
    return Factory("net.py:net", folder=source)


def test_a_saved_folder_holds_the_modules_that_its_factory_imports(tmp_path, with_neighbour):
    """It can be moved to where they are not."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    save(model, tmp_path / "saved", factory=with_neighbour)
    shutil.rmtree(tmp_path / "source")
    (tmp_path / "saved").rename(tmp_path / "moved")
    assert isinstance(load(tmp_path / "moved")[1], nn.ReLU)


@pytest.mark.parametrize("name", ["net.py", "blocks_of_a_test.py"])
def test_code_that_was_edited_is_refused(tmp_path, with_neighbour, name):
    """Another activation has the same weights; a module of one's own is taken as it is."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    save(model, tmp_path / "saved", factory=with_neighbour)
    path = tmp_path / "saved" / name
    path.write_text(path.read_text().replace("ReLU", "Sigmoid") + "\n")
    with pytest.raises(SaveError, match=rf"{name} is not the file that was saved[\s\S]*load\(folder, model=my_model\)"):
        load(tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved", model=model)[0].weight, model[0].weight)
    path.unlink()
    with pytest.raises(SaveError, match=f"{name} is missing"):
        load(tmp_path / "saved")


def test_all_files_are_as_readable_as_the_umask_says(tmp_path, with_neighbour):
    """A colleague can load what a colleague can list."""
    before = os.umask(0o022)
    try:
        save(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), tmp_path / "saved", factory=with_neighbour)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "saved").iterdir()}
    assert set(modes.values()) == {"0o644"}, modes


def test_only_a_saved_model_is_replaced(tmp_path, with_neighbour):
    """Photographs are not; nor a saved model beside which something else lies."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    with pytest.raises(SaveError, match=r"what regraft did not write there: a\.jpg"):
        save(model, tmp_path / "photos", overwrite=True)
    save(model, tmp_path / "saved", factory=with_neighbour)
    load(tmp_path / "saved")  # may leave __pycache__
    save(model, tmp_path / "saved", factory=with_neighbour, overwrite=True)
    (tmp_path / "saved/sub").mkdir()
    (tmp_path / "saved/sub/thesis.tex").touch()
    with pytest.raises(SaveError, match=r"did not write there: sub/thesis\.tex"):
        save(model, tmp_path / "saved", overwrite=True)
    assert (tmp_path / "photos/a.jpg").exists()
    assert (tmp_path / "saved/sub/thesis.tex").exists()


def test_names_of_any_language_are_saved_whatever_the_locale(tmp_path):
    """In a process that would write ASCII."""
    code = (
        "import sys, torch, numpy as np; from torch import nn; from regraft import *\n"
        "np.savez('a.npz', **{'層/kernel': np.ones((2, 3), np.float32), '層/bias': np.ones(3, np.float32)})\n"
        "model = nn.Sequential(nn.Linear(2, 3)); checkpoint = open_checkpoint('a.npz')\n"
        "plan = plan_reuse(checkpoint, model, rename={'層/(.*)': r'0/\\1'}, layout='tensorflow')\n"
        "apply_plan(plan, checkpoint, model); save(model, 'saved', plan=plan, classes=['類'])\n"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "save.py").write_text(code, encoding="utf-8")
    subprocess.run([sys.executable, "save.py"], cwd=tmp_path, env=env, check=True, timeout=600)
    assert read_record(tmp_path / "saved").classes == ("類",)
    assert "層/kernel" in (tmp_path / "saved/plan.json").read_text(encoding="utf-8")


def test_state_that_is_no_tensor_is_refused_by_name(tmp_path):
    """model.safetensors holds tensors only."""

    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"words": "many"}

        def set_extra_state(self, state):
            pass

    with pytest.raises(SaveError, match=r"holds values that are not tensors: _extra_state"):
        save(Odd(1, 1), tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_what_was_adopted_travels_with_the_model(tmp_path):
    """Saved without the plan, loaded, saved again, and as a part of a larger model."""
    model = Normed().eval()
    adopting_plan(model)
    x = torch.randn(1, 2, 4, 4)
    save(model, tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "two")
    assert torch.equal(load(tmp_path / "two")(x), model(x))

    whole = nn.Sequential(copy.deepcopy(model), nn.ReLU()).eval()
    save(whole, tmp_path / "whole")
    again = load(tmp_path / "whole", model=nn.Sequential(Normed(), nn.ReLU()))
    assert torch.equal(again(x), whole(x))


@pytest.mark.parametrize("name", [b"a b", b"\xff\xfe", "層".encode(), b"-x", b"n\nl", b"[x]*?", b"a.npz", b"#%20"])
def test_a_folder_may_have_any_name(tmp_path, factory, name):
    """Also one that is not UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    model = net(5)
    save(model, folder / "saved", factory=factory)
    assert torch.equal(load(folder / "saved")[0].weight, model[0].weight)
