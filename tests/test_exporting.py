"""Models for use without regraft, each loaded by the tool that reads its format."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import regraft
from regraft.errors import SaveError, VerifyError
from regraft.exporting import export
from regraft.exports import onnx as onnx_export
from regraft.inputs import InputContract
from regraft.model_record import Factory
from regraft.tf_layers import padded
from typed import typed


class Small(nn.Module):
    """A convolution with TensorFlow's padding, a norm, a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = padded(nn.Conv2d(3, 8, 3, stride=2), "same"), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, images):
        return self.fc(self.norm(self.conv(images)).relu().mean((2, 3)))


CONTRACT = InputContract(size=(16, 12), mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A saved model and its module."""
    torch.manual_seed(0)
    model = Small().train()
    model(torch.randn(8, 3, 16, 12))  # other statistics than at first
    folder = tmp_path_factory.mktemp("export") / "run"
    regraft.save(model.eval(), folder, inputs=CONTRACT, classes=["cat", "dog"])
    return folder, model


INPUTS = torch.randn(5, 3, 16, 12, generator=torch.Generator().manual_seed(1))


def test_onnx_runtime_gives_the_models_outputs(run, tmp_path):
    """For another batch size than the export's; class names and preparation are in the file."""
    import onnxruntime

    folder, model = run
    path = export(folder, "onnx", tmp_path / "a.onnx", model=Small())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"input": INPUTS.numpy()})[0]
    assert np.allclose(theirs, model(INPUTS).detach().numpy(), atol=1e-5)  # fused operators sum in another order
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["regraft.classes"]) == ["cat", "dog"]
    assert json.loads(facts["regraft.inputs"])["size"] == [16, 12]


def test_a_file_with_other_outputs_is_not_written(run, tmp_path, monkeypatch):
    """What ONNX Runtime computes is compared before."""
    import onnxruntime

    class Wrong(onnxruntime.InferenceSession):
        def run(self, *args):
            return [output + 1 for output in super().run(*args)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    with pytest.raises(VerifyError, match="other outputs than the model: the largest difference is 1"):
        export(run[0], "onnx", tmp_path / "a.onnx", model=Small())
    assert list(tmp_path.iterdir()) == []


def test_a_torch_program_runs_in_a_process_without_regraft(run, tmp_path):
    """Bit for bit, for any batch size."""
    folder, model = run
    path = export(folder, "torch-export", tmp_path / "a.pt2", model=Small())
    torch.save(INPUTS, tmp_path / "inputs.pt")
    code = (
        "import sys, torch; facts = {'classes': '', 'inputs': ''}\n"
        "program = torch.export.load('a.pt2', extra_files=facts).module()\n"
        "torch.save(program(torch.load('inputs.pt')), 'outputs.pt')\n"
        "print('regraft' in sys.modules, facts['classes'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == 'False ["cat", "dog"]\n'
    assert torch.equal(torch.load(tmp_path / "outputs.pt"), model(INPUTS))
    assert path == tmp_path / "a.pt2"


def test_safetensors_hold_the_plain_state(run, tmp_path):
    """With the class names in the header."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    folder, model = run
    path = export(folder, "safetensors", tmp_path / "a.safetensors", model=Small())
    state = load_file(path)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["cat", "dog"]


def test_timm_loads_its_own_model_with_its_preparation(tmp_path):
    """By create_model alone; another model is refused."""
    import timm

    arguments = {"num_classes": 3}
    model = timm.create_model("resnet18", pretrained=False, **arguments).eval()
    contract = InputContract(size=(64, 64), mean=(0.1, 0.2, 0.3), std=(0.5,), resize="crop", crop_fraction=0.9)
    factory = Factory("timm:resnet18", arguments)
    regraft.save(model, tmp_path / "run", inputs=contract, classes=["a", "b", "c"], factory=factory)
    path = export(tmp_path / "run", "timm")
    theirs = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    inputs = torch.randn(2, 3, 64, 64)
    assert torch.equal(theirs(inputs), model(inputs))
    config = timm.data.resolve_data_config(model=theirs)
    assert (config["input_size"], tuple(config["mean"]), config["crop_pct"]) == ((3, 64, 64), (0.1, 0.2, 0.3), 0.9)


def test_transformers_loads_its_own_model_with_the_class_names(tmp_path):
    """By from_pretrained."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes)).eval()
    regraft.save(model, tmp_path / "run", classes=["no", "yes"])
    again = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
    path = export(tmp_path / "run", "hf", tmp_path / "hf", model=again)
    theirs = BertForSequenceClassification.from_pretrained(path).eval()
    tokens = torch.randint(0, 20, (2, 5))
    assert torch.equal(theirs(tokens).logits, model(tokens).logits)
    assert theirs.config.id2label == {0: "no", 1: "yes"}


def test_what_cannot_be_written_is_refused_with_the_reason(run, tmp_path, monkeypatch):
    """Another library's model, an unknown shape, a forward that torch cannot export, a path that exists."""
    folder, _ = run
    refusals = {"timm": "was not built by timm:NAME", "hf": "is a Small and no model of transformers"}
    for to, message in refusals.items():
        with pytest.raises(SaveError, match=message):
            export(folder, to, tmp_path / "x", model=Small())
    with pytest.raises(SaveError, match=r"There is no export format 'onx'.*onnx"):
        export(folder, "onx", model=Small())
    (tmp_path / "taken").touch()
    with pytest.raises(SaveError, match="taken exists already; nothing was changed"):
        export(folder, "onnx", tmp_path / "taken", model=Small())
    regraft.save(nn.Linear(4, 2), tmp_path / "shapeless")
    with pytest.raises(SaveError, match="does not record the shape of an input"):
        export(tmp_path / "shapeless", "torch-export", tmp_path / "x", model=nn.Linear(4, 2))
    export(tmp_path / "shapeless", "torch-export", tmp_path / "shaped.pt2", model=nn.Linear(4, 2), shape=(4,))

    class Choosing(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(SaveError, match=r"torch\.export cannot write the model"):
        export(tmp_path / "shapeless", "torch-export", tmp_path / "x", model=Choosing(4, 2), shape=(4,))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SaveError, match=r"pip install 'regraft\[onnx\]'"):
        export(folder, "onnx", tmp_path / "x", model=Small())
    assert isinstance(onnx_export, types.ModuleType)


def test_the_command_writes_beside_the_run(run):
    """By its code, or by one's own."""
    folder, _ = run
    done = typed("export", folder, "--to", "safetensors", "--out", folder.parent / "own.safetensors")
    assert (done.code, done.output) == (0, f"written: {folder.parent / 'own.safetensors'}\n"), done.errors
    assert typed("export", folder, "--to", "onnx", "--shape", "3,x").code == 2
