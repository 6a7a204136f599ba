"""Real public models of several frameworks answer as recorded: read, planned, applied, verified."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from regraft.tf_layers import padded
from regraft.verifying import verify
from shared import CHECKPOINTS, needs_shared

PUBLIC = CHECKPOINTS / "public"


def restored(path, model, **wishes):
    checkpoint = open_checkpoint(PUBLIC / path)
    plan = plan_reuse(checkpoint, model, **wishes)
    apply_plan(plan, checkpoint, model)
    return plan


class Mask(nn.Module):
    """DTLN's first network: two recurrent layers and a mask."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(257, 128, batch_first=True)
        self.lstm_1 = nn.LSTM(128, 128, batch_first=True)
        self.dense = nn.Linear(128, 257)

    def forward(self, x, states):
        """states (1, 2, 128, 2): layer, unit, hidden and cell."""
        split = [(states[:, i, :, 0][None].contiguous(), states[:, i, :, 1][None].contiguous()) for i in range(2)]
        x, first = self.lstm(x, split[0])
        x, second = self.lstm_1(x, split[1])
        new = torch.stack([torch.cat(one).permute(1, 2, 0) for one in (first, second)], dim=1)
        return self.dense(x).sigmoid(), new


@needs_shared
@pytest.mark.parametrize(
    ("path", "wishes"),
    [
        ("dtln_lstm/model.h5", {"reuse": ["lstm", "lstm_1", "dense"]}),
        (
            "dtln_lstm/model_1.onnx",
            {"rename": {"lstm_4_(.)": r"lstm/\1", "lstm_5_(.)": r"lstm_1/\1", "dense_2/(.*):0": r"dense/\1"}},
        ),
    ],
    ids=["keras", "onnx"],
)
def test_a_recurrent_speech_model_answers_as_the_onnx_runtime_recorded(path, wishes):
    with np.load(PUBLIC / "dtln_lstm" / "golden_model1_onnxruntime.npz") as golden:
        inputs = (golden["in_input_2"], golden["in_input_3"])
        outputs = (golden["out_activation_2"], golden["out_tf_op_layer_stack_2"])
    model = Mask()

    plan = restored(path, model, **wishes)

    assert not plan.problems
    assert verify(model, inputs, outputs, atol=1e-5).max_error < 1e-5


class Crepe(nn.Module):
    """The tiny pitch network: convolution, ReLU, batch-norm and pooling six times; 64 maps of 4 places, flattened."""

    OUTS = (128, 16, 16, 16, 32, 64)

    def __init__(self, *, eps=1e-3):
        super().__init__()
        before = 1
        for index, out in enumerate(self.OUTS, start=1):
            size, stride, pads = (512, 4, (254, 254)) if index == 1 else (64, 1, (31, 32))
            conv = nn.Conv2d(before, out, (size, 1), (stride, 1))
            self.add_module(f"conv{index}", padded(conv, (pads, (0, 0))))
            self.add_module(f"conv{index}-BN", nn.BatchNorm2d(out, eps=eps))
            before = out
        self.classifier = nn.Linear(256, 360)

    def forward(self, frames):
        x = frames[:, None, :, None]
        for index in range(1, 7):
            conv, norm = self.get_submodule(f"conv{index}"), self.get_submodule(f"conv{index}-BN")
            x = functional.max_pool2d(norm(conv(x).relu()), (2, 1))
        return self.classifier(x.flatten(1)).sigmoid()


CREPE = {
    "crepe_keras/model-tiny.h5": {},
    "crepe_torch/tiny.pth": {"rename": {r"(conv\d)_BN(.*)": r"\1-BN\2"}},
}


@needs_shared
@pytest.mark.parametrize("path", CREPE)
def test_the_pitch_network_answers_as_recorded_from_both_frameworks(path):
    frames = np.load(PUBLIC / "crepe_torch" / "frames-crepe.npy")
    recorded = np.load(PUBLIC / "crepe_torch" / "activation-tiny.npy")
    model = Crepe()

    # Both networks flatten (place, channel); ours (channel, place). The file does not tell: the user does.
    restored(path, model, adapt={r"classifier\.weight": "flatten 4x1x64"}, **CREPE[path])

    assert verify(model, frames, recorded, atol=1e-6).max_error < 1e-6


@needs_shared
def test_the_flattened_map_of_the_pitch_network_is_a_problem_before_it_is_a_mistake():
    plan = plan_reuse(open_checkpoint(PUBLIC / "crepe_keras/model-tiny.h5"), Crepe())

    assert [row.name for row in plan.problems] == ["classifier.weight"]
    assert sum(row.status == "assumed" for row in plan.requirements) == 6  # the file tells no eps


POOLS = {"pnet": ((2, 2),), "rnet": ((3, 2), (3, 2)), "onet": ((3, 2), (3, 2), (2, 2))}


class Face(nn.Module):
    """One of MTCNN's networks with the layers that its torch file has, by their names."""

    def __init__(self, name, shapes):
        super().__init__()
        self.pools = POOLS[name]
        for layer, shape in shapes.items():
            kinds = {1: nn.PReLU, 2: lambda out, inp: nn.Linear(inp, out), 4: lambda o, i, *k: nn.Conv2d(i, o, k)}
            self.add_module(layer, kinds[len(shape)](*shape))

    def forward(self, x):
        """Faces (n, 3, w, h), transposed as the authors' are → the answers of every last layer."""
        layers = dict(self.named_children())
        for index in range(1, 6):
            for kind in ("conv", "dense"):
                if layer := layers.get(f"{kind}{index}"):
                    flat = kind == "dense" and x.ndim == 4
                    x = layers[f"prelu{index}"](layer(x.permute(0, 3, 2, 1).flatten(1) if flat else x))
            if index <= len(self.pools):
                x = functional.max_pool2d(x, *self.pools[index - 1], ceil_mode=True)
        return tuple(layers[last](x) for last in layers if "_" in last)


def face_network(name):
    """(an unfilled network, the values of its torch file, which are the truth)."""
    opened = open_checkpoint(PUBLIC / "mtcnn_torch" / f"{name}.pt")
    shapes = {array.removesuffix(".weight"): info.shape for array, info in opened.items() if array.endswith("weight")}
    return Face(name, shapes), {array: torch.tensor(opened.read(array)) for array in opened}


FACES = {
    "pnet": ("det1", {r"conv4-(\d)(.*)": r"conv4_\1\2"}, {}),
    "rnet": ("det2", {r"conv4(.*)": r"dense4\1", r"conv5-(\d)(.*)": r"dense5_\1\2"}, {"dense4": "64x3x3"}),
    "onet": ("det3", {r"conv5(.*)": r"dense5\1", r"conv6-(\d)(.*)": r"dense6_\1\2"}, {"dense5": "128x3x3"}),
}


SIZES = {"pnet": (15, 18), "rnet": (24, 24), "onet": (48, 48)}


def assert_answers_alike(name, model, truth):
    """Every array to the last bit, and so every answer."""
    reference = face_network(name)[0]
    reference.load_state_dict(truth)
    x = torch.randn(2, 3, *SIZES[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        recorded = reference.eval()(x)

    assert all(torch.equal(array, truth[name]) for name, array in model.state_dict().items())
    assert verify(model, x, recorded, atol=0.0).max_error == 0.0


@needs_shared
@pytest.mark.parametrize("name", FACES)
def test_face_networks_of_torch_need_no_word(name):
    model, truth = face_network(name)

    restored(f"mtcnn_torch/{name}.pt", model)

    assert_answers_alike(name, model, truth)


@needs_shared
@pytest.mark.parametrize("name", FACES)
def test_face_networks_of_caffe_are_the_ones_of_torch_to_the_last_bit(name):
    """torch's copy was made of transposed images and flattens (w, h, c): both are told, neither is guessed."""
    stem, rename, flat = FACES[name]
    model, truth = face_network(name)
    adapt = {r"conv\d(_\d)?\.weight": "swap height and width"}
    adapt |= {rf"{layer}\.weight": f"flatten {sizes} order 1,2,0" for layer, sizes in flat.items()}
    if name == "pnet":
        rename = {**rename, r"PReLU(\d)(.*)": r"prelu\1\2"}

    restored(f"mtcnn_caffe/{stem}.caffemodel", model, rename=rename, adapt=adapt)

    assert_answers_alike(name, model, truth)


@needs_shared
@pytest.mark.parametrize("name", FACES)
def test_face_networks_of_numpy_are_the_ones_of_torch_to_the_last_bit(name):
    stem, rename, flat = FACES[name]
    model, truth = face_network(name)
    adapt = {r"conv\d(_\d)?\.weight": "swap height and width"}
    adapt |= {rf"{layer}\.weight": "as stored" for layer in flat}
    if name == "pnet":
        rename = {**rename, r"PReLU(\d)(.*)": r"prelu\1\2"}

    restored(f"mtcnn_npy/{stem}.npy", model, rename=rename, adapt=adapt, layout="tensorflow")

    assert_answers_alike(name, model, truth)
