"""Every recorded Keras layer gives the same answer here: read, planned, applied, verified."""

import re
from collections import OrderedDict

import pytest
import torch
from torch import nn

from regraft.arrays import Checkpoint
from regraft.errors import PlanError, VerifyError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plans.mistakes import possible_mistakes
from regraft.reading import open_checkpoint
from regraft.tf_layers import (
    KerasConvTranspose2d,
    ResetBeforeGRU,
    SameAvgPool2d,
    SameMaxPool2d,
    padded,
    same_pads,
)
from regraft.verifying import verify
from shared import CHECKPOINTS, needs_shared

LAYERS = CHECKPOINTS / "keras_layers"
FLOAT32 = 1e-5  # float32 sums in another order; seen up to 5e-7
# The layer's last name → the name of the layer that takes it, where they are not the same.
MAP, STEPS, PLAIN = (0, 3, 1, 2), (0, 2, 1), None


class Answer(nn.Module):
    """One layer under the name `layer`; recurrent layers and attention give their outputs alone."""

    def __init__(self, layer, *, times=1):
        super().__init__()
        self.layer = layer
        self.times = times

    def forward(self, x):
        answer = self.layer(*[x] * self.times)
        return answer[0] if isinstance(answer, tuple) else answer


def recurrent(kind, **settings):
    return kind(4, 6, batch_first=True, **settings)


def separable():
    """Keras' SeparableConv2D: a depthwise convolution, then a pointwise one."""
    wide = padded(nn.Conv2d(4, 8, 3, 2, groups=4, bias=False), "same")
    return nn.Sequential(OrderedDict(depthwise=wide, pointwise=nn.Conv2d(8, 6, 1)))


# file → (the layer, axes from Keras' to torch's)
CASES = {
    "dense": (lambda: nn.Linear(7, 5), PLAIN),
    "conv2d_same_s2": (lambda: padded(nn.Conv2d(4, 5, 3, stride=2), "same"), MAP),
    "conv1d_causal_dil2": (lambda: padded(nn.Conv1d(4, 5, 3, dilation=2), "causal"), STEPS),
    "depthwise_m2_same": (lambda: padded(nn.Conv2d(4, 8, (3, 5), groups=4), "same"), MAP),
    "sepconv_same_s2_m2": (separable, MAP),
    "deconv_k3s2same": (lambda: KerasConvTranspose2d(3, 5, 3, 2, padding="same"), MAP),
    "deconv_k4s2same": (lambda: KerasConvTranspose2d(3, 5, 4, 2, padding="same"), MAP),
    "deconv_k5s3same": (lambda: KerasConvTranspose2d(3, 5, 5, 3, padding="same"), MAP),
    "deconv_k3s2valid": (lambda: KerasConvTranspose2d(3, 5, 3, 2, padding="valid"), MAP),
    "deconv_k2s3same": (lambda: KerasConvTranspose2d(3, 5, 2, 3, padding="same"), MAP),
    "bn": (lambda: nn.BatchNorm2d(6, eps=1e-3), MAP),
    "ln": (lambda: nn.LayerNorm(6, eps=1e-3), PLAIN),
    "lstm": (lambda: recurrent(nn.LSTM), PLAIN),
    "bilstm": (lambda: recurrent(nn.LSTM, bidirectional=True), PLAIN),
    "gru_after": (lambda: recurrent(nn.GRU), PLAIN),
    "gru_before": (lambda: ResetBeforeGRU(4, 6), PLAIN),
    "mha": (lambda: nn.MultiheadAttention(12, 3, batch_first=True), PLAIN),
    "embedding": (lambda: nn.Embedding(9, 4), PLAIN),
}
POOLS = {"maxpool_same": SameMaxPool2d(3, 2), "avgpool_same": SameAvgPool2d(3, 2)}
RENAME = {
    r"w\d+:separable_conv2d/depthwise_kernel": "layer/depthwise/kernel",
    r"w\d+:separable_conv2d/(?:pointwise_)?(kernel|bias)": r"layer/pointwise/\1",
    r"w\d+:[^/]+/(.*)": r"layer/\1",
}


def recorded(name):
    """(checkpoint of the weights alone, x, y), maps in torch's axis order."""
    opened = open_checkpoint(LAYERS / f"{name}.npz")
    infos = {array: info for array, info in opened.items() if array not in ("x", "y")}
    checkpoint = Checkpoint(opened.path, opened.format, opened.layout, infos, opened.read)
    axes = CASES[name][1] if name in CASES else MAP
    x, y = (opened.read(array) for array in "xy")
    return checkpoint, *(array.transpose(axes) if axes else array for array in (x, y))


def model_of(name):
    return Answer(CASES[name][0](), times=3 if name == "mha" else 1)


def restored(name, model):
    checkpoint, x, y = recorded(name)
    used = {rule: new for rule, new in RENAME.items() if any(re.fullmatch(rule, array) for array in checkpoint)}
    if len(used) > 1:
        del used[r"w\d+:[^/]+/(.*)"]
    plan = plan_reuse(checkpoint, model, rename=used, layout="tensorflow")
    apply_plan(plan, checkpoint, model)
    return torch.tensor(x.copy()), y


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_a_recorded_keras_layer_gives_the_recorded_answer(name):
    model = model_of(name)
    x, y = restored(name, model)

    assert verify(model, x.long() if name == "embedding" else x, y, atol=FLOAT32).max_error <= FLOAT32


# The wrong variants of each recorded layer that its kernel's shape does not betray.
EPS = ["eps of the norms is 1e-05", "eps of the norms is 1e-06"]
CONV = ["height and width", "flipped", "input channels of the first"]
LSTM = ["order figo", "order ifog", "1 is added to the forget"]
GRU = ["order zrn", "order rnz"]
WRONG = {
    "conv2d_same_s2": CONV,
    "conv1d_causal_dil2": ["flipped", "input channels of the first"],
    "depthwise_m2_same": ["flipped", r"ordered \(channel, multiplier\)"],
    "sepconv_same_s2_m2": [*CONV[:2], r"ordered \(channel, multiplier\)"],
    **{name: ["width of the transposed", "kernels are flipped"] for name in CASES if name.startswith("deconv")},
    "deconv_k3s2valid": ["width of the transposed", "kernels are flipped", "convolutions are cut"],
    "bn": [*EPS, "inverse standard deviations"],
    "ln": EPS,
    "lstm": LSTM,
    "bilstm": LSTM,
    "gru_after": [*GRU, "second bias is 0"],
    "mha": ["heads of the attention"],
}


@needs_shared
@pytest.mark.parametrize(("name", "words"), [(name, words) for name in WRONG for words in WRONG[name]])
def test_a_wrong_variant_of_a_recorded_layer_fails_and_is_named(name, words):
    """The mutation check on what Keras recorded: the answer of a wrong variant is refused, and the hint tells which."""
    model = model_of(name).eval()
    x, _ = restored(name, model)
    (mistake,) = (mistake for mistake in possible_mistakes(model) if re.search(words, mistake.words))
    with mistake.trial(model), torch.no_grad():
        wrong = model(x)

    with pytest.raises(VerifyError, match=re.escape(f"It agrees when {mistake.words}")):
        verify(model, x, wrong, atol=FLOAT32)


@needs_shared
@pytest.mark.parametrize("name", POOLS)
def test_recorded_pooling_gives_the_recorded_answer(name):
    _, x, y = recorded(name)

    assert verify(POOLS[name], torch.tensor(x.copy()), y, atol=FLOAT32).max_error <= FLOAT32


@needs_shared
def test_every_recorded_layer_has_its_case():
    assert {path.stem for path in LAYERS.glob("*.npz")} == {*CASES, *POOLS}


@needs_shared
def test_a_gru_that_resets_before_is_refused_by_name_for_torchs_own():
    checkpoint, _, _ = recorded("gru_before")
    plan = plan_reuse(checkpoint, Answer(recurrent(nn.GRU)), rename={r"w\d+:[^/]+/(.*)": r"layer/\1"}, layout="keras")

    with pytest.raises(PlanError, match=r"torch's GRU cannot express.\n.*ResetBeforeGRU"):
        plan.check()


def test_same_padding_puts_the_odd_one_after_and_follows_the_inputs_size():
    assert same_pads((8, 9), (3, 3), (2, 2), (1, 1)) == ((0, 1), (1, 1))
    assert same_pads((5,), (1,), (2,), (1,)) == ((0, 0),)


def test_a_padded_convolution_keeps_the_parameters_and_is_torchs_own_where_torch_can_pad_so():
    conv = nn.Conv2d(3, 4, (3, 5), dilation=(2, 1), padding=(2, 2))
    x = torch.randn(2, 3, 9, 8)

    same = padded(conv, "same")

    assert same.weight is conv.weight
    assert torch.equal(same(x), conv(x))
    assert torch.equal(padded(conv, ((2, 2), (2, 2)))(x), conv(x))


def test_same_lower_is_same_turned_round():
    conv = nn.Conv1d(1, 1, 2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    x = torch.tensor([[[1.0, 2.0, 3.0]]])

    assert padded(conv, "same")(x).tolist() == [[[3.0, 5.0, 3.0]]]
    assert padded(conv, "same_lower")(x).tolist() == [[[1.0, 3.0, 5.0]]]


def test_a_transposed_convolution_smaller_than_its_stride_ends_with_the_bias():
    layer = KerasConvTranspose2d(1, 1, 2, 3, padding="valid")

    answer = layer(torch.zeros(1, 1, 2, 2))

    assert answer.shape == (1, 1, 6, 6)
    assert torch.equal(answer, torch.full((1, 1, 6, 6), layer.bias.item()))


def test_the_older_gru_takes_a_state_and_goes_on():
    gru = ResetBeforeGRU(3, 5)
    x = torch.randn(2, 6, 3)

    whole, last = gru(x)
    first, state = gru(x[:, :4])
    rest, _ = gru(x[:, 4:], state)

    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(last[0], whole[:, -1])
