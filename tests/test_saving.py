"""A saved model can be loaded by regraft, and by torch and safetensors alone."""

import copy
import json

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
from regraft.saving import Factory, load, load_record, save

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
    with pytest.raises(SaveError, match=r"does not tell how to build its model[\s\S]*load\(folder, model=my_model\)"):
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

    saved = load_record(tmp_path / "saved")
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
    with pytest.raises(SaveError, match=r"1.weight: the file has it[\s\S]*0.weight: expected \(4, 2\)"):
        load(tmp_path / "saved", model=other)
    assert torch.equal(other[0].weight, before)


def test_changed_weights_are_noticed(tmp_path):
    """One flipped bit."""
    save(net(), tmp_path / "saved")
    path = tmp_path / "saved/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SaveError, match=r"model.safetensors is not the file that was saved: its sha256 differs"):
        load(tmp_path / "saved", model=net())


@pytest.mark.parametrize("content", [None, "{", '{"inputs": 3}'])
def test_a_folder_that_is_no_saved_model_is_named(tmp_path, content):
    """Missing or damaged record."""
    if content is not None:
        (tmp_path / "regraft.json").write_text(content)
    with pytest.raises(SaveError, match=r"it has no regraft\.json|regraft\.json is damaged"):
        load_record(tmp_path)


def test_state_that_is_no_tensor_is_refused_by_name(tmp_path):
    """model.safetensors holds tensors only."""

    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"words": "many"}

        def set_extra_state(self, state):
            pass

    with pytest.raises(SaveError, match=r"holds what is no tensor: _extra_state"):
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
