"""Whose state dict it is, in containers that are torch's."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from regraft.formats.writers import layout_by_names, layout_by_word, layout_in_torch
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint


@pytest.mark.parametrize(("names", "layout"), [
    (["fc.weight", "fc.bias"], "torch"), (["stem.w", "fc.weight"], "torch"), ([], "torch"),
    (["resnet/~/initial_conv/w", "resnet/~/initial_conv/b"], "haiku"), (["~.linear.w"], "haiku"),
    (["bn._mean", "bn._variance", "bn.weight"], "paddle"), (["conv2d_0.w_0", "batch_norm_0.b_0"], "paddle"),
    (["predictor/fc/W", "predictor/fc/b"], None), (["linear.w", "linear.b"], None),
    (["block.w_0.weight", "block_mean.weight"], "torch"),
])  # fmt: skip
def test_names_give_their_framework_away(names, layout):
    """Names that one framework alone gives; what is not torch's and says no more is asked for."""
    assert layout_in_torch(names) == layout


@pytest.mark.parametrize(("word", "layout"), [
    ("pt", "torch"), ("mlx", "mlx"), ("flax", "flax"), ("tf", "tensorflow"), ("np", None), ("unheard", None),
    (None, "torch"), (3, "torch"), ("", "torch"),
])  # fmt: skip
def test_the_header_s_word_counts_first(word, layout):
    """A word that is not known is asked for; without one the names count."""
    assert layout_by_word(word, ["fc.weight"]) == layout
    assert layout_by_word(None, ["net/~/w"]) == "haiku"


def test_plain_names_prove_nothing_in_a_container_of_nobody():
    """An archive of NumPy's."""
    assert layout_by_names(["fc.weight"]) is None


class Net(nn.Module):
    """Square layers: nothing but the writer tells the order of their axes."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3), nn.Linear(4, 4)


RNG = np.random.default_rng(0)
CONV, DENSE = RNG.normal(size=(3, 3, 3, 3)).astype("f"), RNG.normal(size=(4, 4)).astype("f")  # as torch has them


def filled(path):
    model = Net()
    apply_plan(plan_reuse(open_checkpoint(path), model, fresh=[r".*\.bias"]), open_checkpoint(path), model)
    return model.conv.weight.detach().numpy(), model.fc.weight.detach().numpy()


def test_weights_of_mlx_in_safetensors_are_turned(tmp_path):
    """(out, h, w, in), and dense layers as torch's (MLX' documentation of Conv2d and Linear)."""
    arrays = {"conv.weight": CONV.transpose(0, 2, 3, 1).copy(), "fc.weight": DENSE}
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "mlx"})

    for got, expected in zip(filled(tmp_path / "m.safetensors"), (CONV, DENSE), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("container", ["pdparams", "torch"])
def test_weights_of_paddle_are_turned(tmp_path, container):
    """Convolutions as torch's, dense layers (in, out) (PaddlePaddle's documentation of nn.Linear)."""
    arrays = {
        "conv.weight": CONV,
        "fc.weight": DENSE.T.copy(),
        "bn._mean": np.ones(3, "f"),
        "bn._variance": np.ones(3, "f"),
    }
    path = tmp_path / "m.pdparams"
    if container == "torch":
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    else:
        del arrays["bn._mean"], arrays["bn._variance"]
        names = {"StructuredToParameterName@@": {name: f"p_{name}" for name in arrays}}
        path.write_bytes(pickle.dumps(arrays | names, 2))

    for got, expected in zip(filled(path), (CONV, DENSE), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_weights_of_haiku_in_a_pickle_are_turned(tmp_path):
    """(h, w, in, out) and (in, out), under names with a tilde."""
    params = {"net/~/conv": {"w": CONV.transpose(2, 3, 1, 0).copy()}, "net/~/fc": {"w": DENSE.T.copy()}}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(params))
    model = Net()
    checkpoint = open_checkpoint(tmp_path / "m.pkl")
    rename = {r"net/~/(.*)\.w": r"\1.weight"}

    apply_plan(plan_reuse(checkpoint, model, rename=rename, fresh=[r".*\.bias"]), checkpoint, model)

    assert checkpoint.layout == "haiku"
    np.testing.assert_array_equal(model.conv.weight.detach().numpy(), CONV)
    np.testing.assert_array_equal(model.fc.weight.detach().numpy(), DENSE)
