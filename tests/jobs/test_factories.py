"""Models from a SPEC."""

import pytest
from torch import nn

from regraft.errors import JobError
from regraft.jobs.factories import factory_file, model_by_spec

FILE = "from torch import nn\nfrom beside import width\ndef net(out=2):\n    return nn.Linear(width, out)\n"


@pytest.fixture
def folder(tmp_path):
    """A factory's file, and one beside it that it imports."""
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("width = 3\n")
    return tmp_path


def test_a_file_gives_its_factory_with_arguments(folder):
    """And may import what lies beside it."""
    model = model_by_spec("net.py:net", {"out": 5}, folder=folder)
    assert (model.in_features, model.out_features) == (3, 5)


def test_a_files_classes_have_the_same_name_in_every_process(folder):
    """The key of cached features holds it."""
    (folder / "same.py").write_text("from torch import nn\nclass Net(nn.Module):\n    pass\n")
    assert type(model_by_spec("same.py:Net", folder=folder)).__module__ == "regraft_factory_same"


def test_a_package_gives_its_factory():
    """torch.nn itself, here."""
    assert isinstance(model_by_spec("torch.nn:Linear", {"in_features": 2, "out_features": 1}), nn.Linear)


def test_timm_gives_a_network_without_downloading():
    """Random weights."""
    assert model_by_spec("timm:resnet18", {"num_classes": 3}).num_classes == 3


def test_the_file_of_a_spec_is_found(folder):
    """For copying it into the run."""
    assert factory_file("net.py:net", folder) == folder / "net.py"
    assert factory_file("torch.nn:Linear", folder) is None


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("resnet18", "does not name a factory. Expected timm:NAME"),
        ("net.py:nett", r"there is no factory 'nett'. Did you mean 'net'"),
        ("nat.py:net", r"does not exist: .*nat.py. Did you mean 'net.py'"),
        ("no_such_package:net", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("net.py:width", "there is no factory 'width'"),
        ("builtins:dict", "gave a dict; expected a torch.nn.Module"),
        ("torch.nn:Linear", r"The factory torch.nn:Linear failed with {}: TypeError[\s\S]*--model-args"),
    ],
)
def test_a_wrong_spec_is_answered_with_what_exists(folder, spec, told):
    """Nothing is built."""
    with pytest.raises(JobError, match=told):
        model_by_spec(spec, folder=folder)


def test_a_file_that_fails_is_named_with_its_reason(folder):
    """The user's own error is not hidden."""
    (folder / "bad.py").write_text("1 / 0\n")
    with pytest.raises(JobError, match=r"bad.py cannot be imported: ZeroDivisionError"):
        model_by_spec("bad.py:net", folder=folder)


def test_a_package_whose_parts_do_not_fit_is_told(tmp_path, monkeypatch):
    """As torchvision does beside another torch: a RuntimeError while it is imported."""
    (tmp_path / "unfit_parts.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(JobError, match=r"unfit_parts:net cannot be imported: RuntimeError: operator .* Install it"):
        model_by_spec("unfit_parts:net", {}, folder=tmp_path)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder that transformers wrote, of a tiny image classifier."""
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    folder = tmp_path_factory.mktemp("hub") / "resnet"
    ResNetForImageClassification(ResNetConfig(num_labels=5, **sizes)).save_pretrained(folder)
    return folder


def test_a_from_pretrained_folder_gives_its_model_with_other_outputs(pretrained):
    """Its class is the one of the config; the weights are new, and are restored from the same folder."""
    import regraft

    model = model_by_spec("hf:resnet", {"num_labels": 3}, folder=pretrained.parent)
    assert (type(model).__name__, model.classifier[1].out_features) == ("ResNetForImageClassification", 3)
    checkpoint = regraft.open_checkpoint(pretrained)
    plan = regraft.plan_reuse(checkpoint, model, fresh="classifier")
    regraft.apply_plan(plan, checkpoint, model)
    name = "resnet.embedder.embedder.convolution.weight"
    assert (checkpoint.read(name) == model.state_dict()[name].numpy()).all()
    assert not plan.problems


def test_a_setting_that_the_config_does_not_have_is_refused(pretrained):
    """A config takes any name without a word, and the model would keep its five outputs."""
    with pytest.raises(JobError, match="ResNetConfig has no setting num_classes"):
        model_by_spec("hf:resnet", {"num_classes": 3}, folder=pretrained.parent)


def test_what_is_not_in_the_cache_is_not_downloaded(tmp_path):
    """An id that transformers does not find, and a folder without a class."""
    with pytest.raises(JobError, match="The factory hf:nobody/nothing failed"):
        model_by_spec("hf:nobody/nothing", folder=tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(JobError, match="names no class under architectures"):
        model_by_spec("hf:.", folder=tmp_path)


def test_a_saved_model_of_a_folder_is_built_without_it(pretrained, tmp_path):
    """The config is in the saved folder; an edited one is refused."""
    import shutil

    import torch

    import regraft
    from regraft.errors import SaveError
    from regraft.model_record import Factory

    hub = shutil.copytree(pretrained, tmp_path / "hub")
    model = model_by_spec("hf:hub", {"num_labels": 3}, folder=tmp_path).eval()
    regraft.save(model, tmp_path / "run", factory=Factory("hf:hub", {"num_labels": 3}, tmp_path))
    shutil.rmtree(hub)
    loaded = regraft.load(tmp_path / "run")
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(images).logits, model(images).logits)
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"embedding_size": 8', '"embedding_size": 16'))
    with pytest.raises(SaveError, match=r"config\.json"):
        regraft.load(tmp_path / "run")
