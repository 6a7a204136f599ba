"""The network of an ONNX file is a plain torch module: it trains, is copied and pickled, and takes any batch."""

import copy
import pickle

import numpy as np
import torch
from tests.onnx_networks import build_onnx, floats, node, write_onnx
from torch import nn

from regraft.networks.onnx import network_of_onnx
from regraft.reading import open_checkpoint


def encoder(path):
    """An embedding, an attention of one head, a feed-forward part: as exporters write a BERT."""
    arrays = {
        "bert.words.weight": floats(11, 6), "bert.query.weight": floats(6, 6, seed=1), "bert.key.weight": floats(6,
            6, seed=2),
        "bert.query.bias": floats(6), "scale": np.array(6**-0.5, np.float32), "bert.norm.weight": floats(6),
        "bert.norm.bias": floats(6), "head.weight": floats(6, 3), "head.bias": floats(3),
    }  # fmt: skip
    nodes = [
        node("Gather", "bert.words.weight ids", "e"), node("MatMul", "e bert.query.weight", "q0"),
        node("Add", "q0 bert.query.bias", "q"), node("MatMul", "e bert.key.weight", "k"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]), node("MatMul", "q kt", "s0"), node("Mul", "s0 scale", "s"),
        node("Softmax", "s", "p", axis=-1), node("MatMul", "p e", "c"), node("Add", "c e", "r"),
        node("LayerNormalization", "r bert.norm.weight bert.norm.bias", "n"), node("ReduceMean", "n", "m", axes=[1],
            keepdims=0),
        node("Gemm", "m head.weight head.bias", "y"),
    ]  # fmt: skip
    return write_onnx(path, nodes, {"ids": np.array([[1, 3, 5, 7]])}, arrays)


def test_the_code_reads_as_a_person_would_write_it(tmp_path):
    """Layers under their names, no helper, one line for each step."""
    text = build_onnx(encoder(tmp_path / "bert.onnx")).text

    assert "self.bert.query = nn.Linear(6, 6)" in text
    assert "self.bert.words = nn.Embedding(11, 6)" in text
    assert "self.head = nn.Linear(6, 3)" in text
    assert len(text.splitlines()) < 40


def test_the_model_trains_and_can_be_copied_and_pickled(tmp_path):
    """One step changes every array; a copy computes the same."""
    model = build_onnx(encoder(tmp_path / "bert.onnx")).model
    ids = torch.tensor([[1, 3, 5, 7], [2, 4, 6, 8], [0, 0, 1, 1]])
    before = {name: value.clone() for name, value in model.named_parameters()}

    assert torch.equal(copy.deepcopy(model)(ids), model(ids))
    assert torch.equal(pickle.loads(pickle.dumps(model))(ids), model(ids))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    nn.functional.cross_entropy(model(ids), torch.tensor([0, 1, 2])).backward()
    optimizer.step()

    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []


def test_a_file_in_which_inputs_are_free_describes_its_inputs(tmp_path):
    """Names, dtypes, sizes."""
    network = network_of_onnx(open_checkpoint(encoder(tmp_path / "bert.onnx")))

    assert [(entry.name, entry.shape, entry.dtype) for entry in network.entries] == [("ids", (1, 4), "int64")]
    assert network.outputs == ("y",)
