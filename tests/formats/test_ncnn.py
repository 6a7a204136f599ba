"""ncnn's two files; a torch twin with the arrays answers as ncnn's own runtime."""

import struct
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from regraft.errors import CheckpointError
from regraft.formats.ncnn import Ncnn
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from regraft.testing import FormatContract

GOLDEN = Path(__file__).parents[1] / "golden"


class Net(nn.Module):
    """The golden network, under its own names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=(1, 2), padding=(2, 1))
        self.bn1, self.prelu1 = nn.BatchNorm2d(4, eps=1e-3), nn.PReLU(4)
        self.dw, self.up = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.ConvTranspose2d(4, 5, 2, stride=2)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        x = self.prelu1(self.bn1(leaky_relu(self.conv1(x), 0.1)))
        return self.fc(self.up(x + self.dw(x)).mean((2, 3)))


def filled(model, name, **wishes):
    checkpoint = open_checkpoint(GOLDEN / name)
    apply_plan(plan_reuse(checkpoint, model, **wishes), checkpoint, model)
    return model.eval()


def answers(name):
    with np.load(GOLDEN / name) as arrays:
        return torch.from_numpy(arrays["x"])[None], torch.from_numpy(arrays["y"])


@pytest.mark.parametrize("name", ["ncnn.param", "ncnn.bin", "ncnn_half.param"])
def test_a_twin_answers_as_ncnn_does(name):
    """Kernels of float32 and float16, a batch-norm with ncnn's own order of arrays, a transposed convolution."""
    x, y = answers(Path(name).with_suffix(".npz"))

    model = filled(Net(), name)

    torch.testing.assert_close(model(x)[0], y, atol=1e-5, rtol=1e-5)  # float32, other kernels


def test_the_connections_pair_layers_of_other_names():
    x, y = answers("ncnn.npz")

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            net = Net()
            self.a, self.b, self.c, self.d = net.conv1, net.bn1, net.prelu1, net.dw
            self.e, self.f = net.up, net.fc

        def forward(self, x):
            x = self.c(self.b(leaky_relu(self.a(x), 0.1)))
            return self.f(self.e(x + self.d(x)).mean((2, 3)))

    model = filled(Other(), "ncnn.param", match="structure")

    torch.testing.assert_close(model(x)[0], y, atol=1e-5, rtol=1e-5)  # float32, other kernels


def test_gates_of_both_directions_are_put_in_the_order_of_torch():
    x, y = answers("ncnn_cell.npz")

    model = filled(nn.ModuleDict({"lstm": nn.LSTM(4, 3, bidirectional=True, batch_first=True)}), "ncnn_cell.param")

    torch.testing.assert_close(model["lstm"](x)[0][0], y, atol=1e-6, rtol=1e-5)  # float32, other kernels


def write(folder, layers, content):
    (folder / "net.param").write_text(f"7767517\n1 2\n{layers}\n")
    (folder / "net.bin").write_bytes(content)
    return folder / "net.param"


def test_values_of_a_table_are_looked_up(tmp_path):
    """ncnn's older tool stores 256 values and a byte for each number."""
    table = np.linspace(-1, 1, 256, dtype="<f4")
    codes = np.array([3, 0, 255, 7, 9, 1], np.uint8)

    content = b"\1\0\0\0" + table.tobytes() + codes.tobytes() + bytes(2)
    path = write(tmp_path, "InnerProduct fc 1 1 x y 0=2 1=0 2=6", content)

    assert np.array_equal(open_checkpoint(path).read("fc/weight"), table[codes].reshape(2, 3))


@pytest.mark.parametrize(
    ("layers", "content", "match"),
    [
        ("Sorcery s 1 1 x y", b"", r"net\.param: .*s: Sorcery is not read"),
        ("InnerProduct fc 1 1 x y 0=2 1=0 2=6 8=1", b"", "int8 scales are not read"),
        ("InnerProduct fc 1 1 x y 0=2 1=0 2=6", struct.pack("<I", 0x000D4B38) + bytes(8), "int8, which is not read"),
        ("InnerProduct fc 1 1 x y 0=2 1=0 2=6", bytes(4 + 20), "needs 28 bytes, the file has 24"),
        ("InnerProduct fc 1 1 x y 0=2 1=0 2=6", bytes(4 + 28), "needs 28 bytes, the file has 32"),
        ("InnerProduct fc 1 1 x y 0=0 1=0 2=6", bytes(28), "cannot be read"),
        ("InnerProduct fc 1 1 x y 0=many", bytes(28), "cannot be read"),
        ("ReLU", b"", "cannot be read"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path, layers, content, match):
    """An unread layer would move all arrays behind it."""
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(write(tmp_path, layers, content))


def test_a_network_without_its_other_file_is_refused(tmp_path):
    path = write(tmp_path, "ReLU r 1 1 x y", b"")
    path.with_suffix(".bin").unlink()

    with pytest.raises(CheckpointError, match=r"net\.bin is not beside it"):
        open_checkpoint(path)


class TestNcnn(FormatContract):
    """Constants, which have any shape of up to four axes."""

    format = Ncnn()
    arrays = MappingProxyType(
        {
            "first/data": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
            "second/data": np.array([0.5, -0.25, 8.0], np.float32),
        }
    )

    def write(self, folder, arrays):
        lines = []
        for name, array in arrays.items():
            sizes = " ".join(f"{key}={size}" for key, size in zip((0, 1), reversed(array.shape), strict=False))
            lines.append(f"MemoryData {name.removesuffix('/data')} 0 1 {name} {sizes}")
        return write(folder, "\n".join(lines), b"".join(array.tobytes() for array in arrays.values()))
