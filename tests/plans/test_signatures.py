"""One layer has one signature in every framework."""

import pytest
from torch import nn

from regraft.plans.describing import describe_model
from regraft.plans.signatures import signature_of, source_signature


def ours(module):
    return signature_of(describe_model(module)[0])


@pytest.mark.parametrize(
    ("module", "leaves", "layer_type", "layout"),
    [
        (nn.Linear(3, 5), {"kernel": (3, 5), "bias": (5,)}, "Dense", "tensorflow"),
        (nn.Linear(3, 5), {"weight": (5, 3)}, "", "torch"),
        (nn.Conv2d(3, 5, (1, 2)), {"kernel": (1, 2, 3, 5)}, "Conv2D", "tensorflow"),
        (nn.Conv2d(3, 5, (1, 2)), {"weight": (5, 3, 1, 2)}, "Conv", "onnx"),
        (nn.Conv2d(3, 5, 1), {"kernel": (3, 5)}, "Dense", "tensorflow"),
        (nn.Linear(3, 5), {"kernel": (1, 1, 3, 5)}, "Conv2D", "tensorflow"),
        (nn.Conv2d(3, 6, 2, groups=3), {"depthwise_kernel": (2, 2, 3, 2)}, "DepthwiseConv2D", "tensorflow"),
        (nn.Conv2d(3, 6, 2, groups=3), {"kernel": (2, 2, 1, 6)}, "Conv2D", "tensorflow"),
        (nn.ConvTranspose2d(3, 5, 2), {"kernel": (2, 2, 5, 3)}, "Conv2DTranspose", "tensorflow"),
        (nn.BatchNorm2d(4), {"beta": (4,), "moving_mean": (4,), "moving_variance": (4,)}, "", "tensorflow"),
        (nn.LayerNorm(4), {"gamma": (4,), "beta": (4,)}, "LayerNormalization", "tensorflow"),
        (nn.Embedding(9, 4), {"embeddings": (9, 4)}, "", "tensorflow"),
        (nn.LSTM(3, 5), {"kernel": (3, 20), "recurrent_kernel": (5, 20), "bias": (20,)}, "", "tensorflow"),
        (nn.GRU(3, 5), {"W": (1, 15, 3), "R": (1, 15, 5)}, "GRU", "onnx"),
        (nn.MultiheadAttention(6, 2), {"query/kernel": (6, 2, 3)}, "MultiHeadAttention", "tensorflow"),
        (nn.PReLU(4), {"alpha": (1, 1, 4)}, "PReLU", "tensorflow"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_and_its_source_have_one_signature(module, leaves, layer_type, layout):
    assert source_signature(leaves, layer_type, layout, {}) == ours(module) is not None


def test_a_dense_kernel_whose_axes_nobody_tells_has_no_signature():
    assert source_signature({"weight": (3, 5)}, "MatMul", "onnx", {}) is None
    assert source_signature({"weight": (3, 5)}, "MatMul", "onnx", {"kernel_axes": ["in", "out"]}) == ("dense", (5, 3))


def test_arrays_of_no_known_layer_have_no_signature():
    assert source_signature({"table": (3, 4)}, "", "tensorflow", {}) is None
