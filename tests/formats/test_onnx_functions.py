"""What an ONNX node without weights computes is compared with the model: torch's own exporter, then another model."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint


class Net(nn.Module):
    """conv → middle → conv"""

    def __init__(self, middle):
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 3), middle, nn.Conv2d(4, 2, 3)

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


def problems(folder, theirs, ours):
    with warnings.catch_warnings(action="ignore"):  # the exporter warns that a newer one exists
        torch.onnx.export(Net(theirs).eval(), (torch.zeros(1, 3, 12, 12),), folder / "net.onnx", opset_version=17,
                          dynamo=False)  # fmt: skip
    plan = plan_reuse(open_checkpoint(folder / "net.onnx"), Net(ours))
    return [(str(row.required), str(row.found)) for row in plan.requirements if row.is_problem]


def resized(**how):
    return lambda x: functional.interpolate(x, scale_factor=2, **how)


SAME = {
    "nearest": (nn.Upsample(scale_factor=2), resized(mode="nearest")),
    "linear": (nn.Upsample(scale_factor=2, mode="bilinear"), resized(mode="bilinear")),
    "aligned": (resized(mode="bilinear", align_corners=True),) * 2,
    "gelu": (nn.GELU(), functional.gelu),
    "gelu_tanh": (nn.GELU("tanh"), lambda x: functional.gelu(x, approximate="tanh")),
    "hardswish": (nn.Hardswish(), functional.hardswish),
    "mish": (nn.Mish(), functional.mish),
    "clip": (nn.Hardtanh(0, 3), lambda x: x.clamp(0, 3)),
    "softmax": (nn.Softmax(2), lambda x: x.softmax(2)),
    "affine": (lambda x: (x + 1) * 2, lambda x: x * 2 + 2),
    "flip": (lambda x: x.flip(3),) * 2,
    "shuffle": (nn.PixelShuffle(1),) * 2,
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_function_is_no_problem(case, tmp_path):
    assert problems(tmp_path, *SAME[case]) == []


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        (resized(mode="nearest"), resized(mode="bilinear"), ("resize nearest", "resize linear")),
        (resized(mode="bilinear", align_corners=True), resized(mode="bilinear"),
         ("resize linear, corners aligned", "resize linear")),
        (nn.GELU(), nn.GELU("tanh"), ("gelu", "gelu_tanh")),
        (lambda x: x * torch.sigmoid(1.702 * x), nn.GELU(), ("quick_gelu", "gelu")),
        (lambda x: x.clamp(0, 3), nn.ReLU6(), ("clip(0, 3)", "relu6")),
        (nn.CELU(2.0), nn.ELU(2.0), ("celu(2)", "elu(2)")),
        (nn.Softsign(), nn.Tanh(), ("an operation", "tanh")),
        (nn.LogSoftmax(1), nn.Softmax(1), ("log_softmax", "softmax")),
        (lambda x: x * 2.5, nn.Identity(), ("times 2.5", "no operation")),
        (lambda x: 1 - x, nn.Identity(), ("times -1 plus 1", "no operation")),
        (lambda x: x / 4, lambda x: x / 2, ("times 0.25", "times 0.5")),
        (torch.abs, nn.Identity(), ("abs", "no operation")),
        (lambda x: x.flip(3), nn.Identity(), ("flip", "no operation")),
        (lambda x: x[:, [3, 1, 2, 0]], nn.Identity(), ("take [3, 1, 2, 0]", "no operation")),
        (nn.MaxPool2d(2, 1, dilation=2), nn.MaxPool2d(3, 1), ("max pooling with holes", "no operation")),
        (nn.LocalResponseNorm(3), nn.Identity(), None),
    ],
)  # fmt: skip
def test_another_function_is_a_problem(theirs, ours, expected, tmp_path):
    found = problems(tmp_path, theirs, ours)

    assert found
    assert expected is None or expected in found
