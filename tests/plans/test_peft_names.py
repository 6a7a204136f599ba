"""PEFT models: a base checkpoint and an adapter's."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import regraft
import vision_stub  # noqa: F401  # before PEFT, which imports transformers
from regraft.errors import PlanError


class Net(nn.Module):
    """Two layers and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())


@pytest.fixture(scope="module")
def peft():
    """The library."""
    import peft

    return peft


def adapted(peft, seed=0, *, alpha=8, name="default"):
    """A PEFT model: a low-rank adapter at the second layer, a head of its own."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=2, lora_alpha=alpha, target_modules=["second"], modules_to_save=["head"])
    model = peft.get_peft_model(Net(), config, adapter_name=name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model.eval()


INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(5))


def restored(path, model):
    """The model with what a checkpoint has for it."""
    checkpoint = regraft.open_checkpoint(path)
    plan = regraft.plan_reuse(checkpoint, model)
    regraft.apply_plan(plan, checkpoint, model)
    return plan


@pytest.mark.parametrize("name", ["default", "mine"])
def test_an_adapters_folder_fills_the_adapter(peft, tmp_path, name):
    """And the base keeps its weights: the outputs are the saved model's, where the base is the same."""
    theirs, ours = adapted(peft, 1, name=name), adapted(peft, 2, name=name)
    theirs.save_pretrained(tmp_path / "a")
    folder = tmp_path / "a" if name == "default" else tmp_path / "a" / name
    base = {
        key: value for key, value in theirs.state_dict().items() if "lora" not in key and "modules_to_save" not in key
    }
    ours.load_state_dict(base, strict=False)

    plan = restored(folder, ours)

    assert torch.equal(ours(INPUTS), theirs(INPUTS))
    assert len(plan.reused) == 4
    assert f"The checkpoint fills the adapter {name!r} of the PEFT model. 6 arrays of its base are kept." in plan.notes


def test_a_base_checkpoint_fills_the_base_and_the_new_head(peft, tmp_path):
    """The adapter keeps its weights; the head that is trained starts as the base's."""
    torch.manual_seed(3)
    plain, ours = Net(), adapted(peft, 4)
    save_file(plain.state_dict(), tmp_path / "base.safetensors")
    before = {key: value.clone() for key, value in ours.state_dict().items() if "lora" in key}

    plan = restored(tmp_path / "base.safetensors", ours)

    state = ours.state_dict()
    assert torch.equal(state["base_model.model.second.base_layer.weight"], plain.second.weight)
    assert torch.equal(state["base_model.model.head.modules_to_save.default.weight"], plain.head.weight)
    assert all(torch.equal(state[key], value) for key, value in before.items())
    with ours.disable_adapter():
        assert torch.equal(ours(INPUTS), plain(INPUTS))
    assert "The checkpoint fills the base model of the PEFT model. 2 arrays of its adapters are kept." in plan.notes


def test_a_whole_peft_model_is_restored_by_its_own_names(peft, tmp_path):
    """Nothing is renamed."""
    theirs, ours = adapted(peft, 1), adapted(peft, 2)
    save_file(theirs.state_dict(), tmp_path / "whole.safetensors")
    restored(tmp_path / "whole.safetensors", ours)
    assert torch.equal(ours(INPUTS), theirs(INPUTS))


def test_other_settings_of_the_adapter_are_refused(peft, tmp_path):
    """lora_alpha scales the adapter, and no array shows it."""
    adapted(peft, 1, alpha=16).save_pretrained(tmp_path / "a")
    checkpoint = regraft.open_checkpoint(tmp_path / "a")
    with pytest.raises(PlanError, match=r"trained with other settings .*\n  lora_alpha  expected 16, got 8\n"):
        regraft.plan_reuse(checkpoint, adapted(peft, 2))
    (tmp_path / "a/adapter_config.json").write_text("{")
    with pytest.raises(PlanError, match=r"adapter_config.json cannot be read"):
        regraft.plan_reuse(checkpoint, adapted(peft, 2))
    (tmp_path / "a/adapter_config.json").write_text(json.dumps({"lora_alpha": 8}))
    assert not regraft.plan_reuse(checkpoint, adapted(peft, 2)).problems


def test_the_frozen_base_is_cached_and_the_adapter_trains(peft, tmp_path):
    """As for any model; the library saves and merges what was trained."""
    model = adapted(peft, 1)
    trunk, head = regraft.split(model, INPUTS[:4])
    features = regraft.cache_features(trunk, (INPUTS, torch.arange(12) % 3))
    frozen = {key: value.clone() for key, value in model.state_dict().items() if "first" in key or "base_layer" in key}
    lora = model.state_dict()["base_model.model.second.lora_B.default.weight"].clone()

    regraft.train(head, features, solver=regraft.Steps(epochs=2))

    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in frozen.items())
    assert not torch.equal(state["base_model.model.second.lora_B.default.weight"], lora)
    outputs = model.eval()(INPUTS)
    assert torch.allclose(model.merge_and_unload()(INPUTS), outputs, atol=1e-5)  # W x + B A x and (W + B A) x
