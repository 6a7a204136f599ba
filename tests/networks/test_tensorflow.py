"""Networks of TensorFlow graphs: beside a TF1 checkpoint, in a SavedModel, frozen, and of TensorFlow.js."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.built import build_network
from tests.javascript import write_tfjs
from tests.shared import needs_shared
from torch import nn

from regraft.errors import BuildError
from regraft.networks.tensorflow import network_of_tensorflow
from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name):
    """Arrays that TensorFlow wrote."""
    with np.load(GOLDEN / name) as file:
        return {key: file[key] for key in file.files}


def test_a_checkpoint_with_its_graph_is_restored_whole():
    """Without a line of model code: what belongs to training is left out, or works in training alone."""
    truth = golden("graph_training.npz")
    built = build_network(open_checkpoint(GOLDEN / "graph_training.ckpt"))

    result = built.model(torch.from_numpy(truth["x"]).permute(0, 3, 1, 2)).detach().numpy()

    np.testing.assert_allclose(result, truth["logits"], atol=1e-6)  # another order of sums
    kinds = {name: type(layer) for name, layer in built.model.named_children()}
    assert [*kinds] == ["conv1", "norm", "dropout", "fc"]
    assert kinds["norm"] is nn.BatchNorm2d
    assert built.model.dropout.p == pytest.approx(0.4)


def test_the_batch_norm_of_the_graph_works_in_training():
    """A batch moves its averages, and dropout drops."""
    model = build_network(open_checkpoint(GOLDEN / "graph_training.ckpt")).model.train()
    before = model.norm.running_mean.clone()
    x = torch.randn(4, 3, 8, 8)

    results = model(x), model(x)

    assert not torch.equal(model.norm.running_mean, before)
    assert not torch.equal(*results)


def test_a_saved_model_calls_functions():
    """Which are put where they are called; the signature names the outputs."""
    truth = golden("graph_savedmodel.npz")
    built = build_network(open_checkpoint(GOLDEN / "graph_savedmodel"))

    result = built.model(torch.from_numpy(truth["x"])).detach().numpy()

    np.testing.assert_allclose(result, truth["result"], atol=1e-6)  # another order of sums
    assert any(isinstance(layer, nn.Linear) for layer in built.model.modules())


@pytest.mark.parametrize("name", ["keras3_savedmodel", "tf_keras_savedmodel", "tf1_savedmodel"])
def test_saved_models_of_all_writers_are_graphs(name):
    """What has no translation is refused by name, never built otherwise."""
    network = network_of_tensorflow(open_checkpoint(GOLDEN / name))

    assert network is not None
    assert network.entries
    assert network.nodes


def node(name, op, *inputs, **settings):
    """A node as TensorFlow.js writes it."""
    return {"name": name, "op": op, "input": list(inputs), "attr": settings}


def graph_model(folder, *more):
    """A dense layer and an activation, with nodes behind them."""
    arrays = {"fc/kernel": np.arange(6, dtype=np.float32).reshape(3, 2), "fc/bias": np.ones(2, np.float32)}
    nodes = [
        node("x", "Placeholder", dtype={"type": "DT_FLOAT"}, shape={"shape": {"dim": [{"size": "-1"}, {"size": "3"}]}}),
        node("fc/kernel", "Const"), node("fc/bias", "Const"),
        node("fc", "_FusedMatMul", "x", "fc/kernel", "fc/bias",
             fused_ops={"list": {"s": ["Qmlhc0FkZA==", "UmVsdQ=="]}}),
        *more,
    ]  # fmt: skip
    return write_tfjs(folder, arrays, topology={"node": nodes})


def test_a_graph_model_of_tensorflow_js(tmp_path):
    """The fused bias and activation are the layer's bias and a step."""
    built = build_network(open_checkpoint(graph_model(tmp_path)))

    x = torch.tensor([[1.0, -1.0, 0.5]])
    assert built.model(x).tolist() == [[1.0, 1.5]]
    assert isinstance(built.model.fc, nn.Linear)


def test_what_has_no_translation_is_refused_by_name(tmp_path):
    """All at once, with the count."""
    path = graph_model(tmp_path, node("a", "Magic", "fc"), node("b", "While", "a"))

    with pytest.raises(BuildError, match=r"2 of \d+ nodes .*\n  Magic a\n  While b: loops have no translation"):
        build_network(open_checkpoint(path))


def test_a_checkpoint_without_a_graph_describes_no_network():
    """The objects of Keras 3."""
    checkpoint = open_checkpoint(GOLDEN / "keras3_objects")

    assert network_of_tensorflow(checkpoint) is None
    with pytest.raises(BuildError, match="without a description of their network"):
        build_network(checkpoint)


MNIST = {
    "tf1_v1format_mnist10_sgd": "model_v1.ckpt",
    "tf1_v2_mnist10_sgd": "my_model_final.ckpt",
    "tf1_v2_mnist0to4_5x90_leaky_adam": "my_best_mnist_model_0_to_4",
    "tf1_v2_sharded_partitioned_adam_globalstep": "model.ckpt-275",
}


@needs_shared
@pytest.mark.parametrize("name", MNIST)
def test_the_textbooks_checkpoints_are_restored_whole(name):
    """Of both formats, sharded and partitioned, with the optimizer's slots beside the weights."""
    from tests.shared import CHECKPOINTS

    folder = CHECKPOINTS / "mnist"
    x = torch.from_numpy(np.load(folder / "expected" / "mnist_test16_images_float32_0to1.npy").reshape(16, 784))
    wanted = np.load(folder / "expected" / f"{name}.logits16.npy")

    built = build_network(open_checkpoint(folder / name / MNIST[name]))

    result = built.model(x).detach().numpy()
    assert np.abs(result - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert {type(layer) for layer in built.model.modules()} - {type(built.model), nn.Module} == {nn.Linear}
