"""Layers with a wrong variant of their layout, and what makes each wrong: for the tests of hints and mistakes."""

import torch
from torch import nn

from regraft.tf_layers import KerasConvTranspose2d, ResetBeforeGRU, SameAvgPool2d, SameMaxPool2d, padded


class First(nn.Module):
    """A recurrent layer's outputs alone; attention to itself."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return (self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x))[0]


class Flattened(nn.Module):
    """A convolution and a dense layer behind its flattened map, in TensorFlow's order or in torch's."""

    def __init__(self, *, channels_last=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4 * 5 * 7, 6)
        self.channels_last = channels_last

    def forward(self, x):
        x = self.conv(x)
        return self.fc((x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1))


MAPS, STEPS = (2, 3, 5, 7), (2, 5, 4)  # odd and unequal on purpose
GATES = [(0, 1), (1, 2), (2, 3)]


def swap_blocks(parts, one, two):
    def spoil(model):
        for array in model.layer.parameters():
            blocks = list(array.chunk(parts))
            blocks[one], blocks[two] = blocks[two], blocks[one]
            array.copy_(torch.cat(blocks))

    return spoil


def bias_twice(model):
    model.layer.bias_hh_l0.copy_(model.layer.bias_ih_l0)


def no_second_bias(model):
    model.layer.bias_hh_l0.zero_()


def forget_less(model):
    model.layer.bias_ih_l0[6:12] -= 1


def mix_heads(model):
    for array in (model.layer.in_proj_weight, model.layer.in_proj_bias):
        array.copy_(array.reshape(3, 2, 2, *array.shape[1:]).transpose(1, 2).reshape(array.shape))


def mix_depthwise(model):
    weight = model[0].weight
    weight.copy_(weight.reshape(3, 2, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape))


def exchange(one, two):
    def spoil(model):
        model[0].weight.copy_(model[0].weight.transpose(one, two).clone())

    return spoil


def turn(model):
    model[0].weight.copy_(model[0].weight.flip(tuple(range(2, model[0].weight.ndim))))


def invert_variance(model):
    model[0].running_var.copy_(model[0].running_var.rsqrt())


def nothing(model):
    """The mistake is the layer itself."""


def lstm():
    return First(nn.LSTM(4, 6, batch_first=True))


def gru():
    return First(nn.GRU(4, 6, batch_first=True))


def transposed():
    return nn.Sequential(nn.ConvTranspose2d(3, 3, 3, stride=2))


# what is wrong: (the right model, the wrong one, what spoils it, shape of x, what the hint must say)
CASES = {
    "lstm gates i f": (lstm, lstm, swap_blocks(4, 0, 1), STEPS, "gates of the LSTM are taken in the order figo"),
    "lstm gates g o": (lstm, lstm, swap_blocks(4, 2, 3), STEPS, "gates of the LSTM are taken in the order ifog"),
    "gru gates": (gru, gru, swap_blocks(3, 0, 1), STEPS, "gates of the GRU are taken in the order zrn"),
    "lstm bias twice": (lstm, lstm, bias_twice, STEPS, "LSTM's second bias is 0"),
    "lstm forget bias": (lstm, lstm, forget_less, STEPS, "1 is added to the forget gate's bias"),
    "gru reset": (
        lambda: First(ResetBeforeGRU(4, 6)), gru, nothing, STEPS, "resets before the product",
    ),
    "heads": (
        lambda: First(nn.MultiheadAttention(4, 2, batch_first=True)),
        lambda: First(nn.MultiheadAttention(4, 2, batch_first=True)),
        mix_heads, STEPS, "heads of the attention come before their values",
    ),
    "flatten": (
        lambda: Flattened(channels_last=True), Flattened, nothing, MAPS, r"inputs of fc are a flattened map",
    ),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3)), lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3)),
        mix_depthwise, MAPS, r"depthwise kernels are ordered \(channel, multiplier\)",
    ),
    "same convolution": (
        lambda: nn.Sequential(padded(nn.Conv2d(3, 4, 3, stride=2), "same")),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1)),
        nothing, (2, 3, 8, 6), "convolutions pad as TensorFlow",
    ),
    "same max-pooling": (
        lambda: nn.Sequential(SameMaxPool2d(3, 2)), lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1)), nothing,
        (2, 3, 8, 6), "max-pooling pad as TensorFlow",
    ),
    "same average": (
        lambda: nn.Sequential(SameAvgPool2d(3, 2)), lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1)), nothing,
        (2, 3, 8, 7), "averages pad as TensorFlow",
    ),
    "inverse deviation": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, eps=0.0)), lambda: nn.Sequential(nn.BatchNorm2d(3, eps=0.0)),
        invert_variance, MAPS, "variances are inverse standard deviations",
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.LayerNorm(4, eps=1e-3)), lambda: nn.Sequential(nn.LayerNorm(4)), nothing, STEPS,
        r"eps of the norms is 0\.001",
    ),
    "flipped in one dimension": (
        lambda: nn.Sequential(nn.Conv1d(5, 3, 3)), lambda: nn.Sequential(nn.Conv1d(5, 3, 3)), turn, STEPS,
        "convolution kernels are flipped",
    ),
    "transposed cut": (
        lambda: nn.Sequential(KerasConvTranspose2d(3, 4, 3, 2, padding="same")),
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, padding=1, output_padding=1)),
        nothing, MAPS, "transposed convolutions are cut as TensorFlow",
    ),
    "transposed channels": (transposed, transposed, exchange(0, 1), MAPS, "transposed convolutions are exchanged"),
    "transposed height and width": (
        transposed, transposed, exchange(2, 3), MAPS, "width of the transposed convolutions' kernels are swapped",
    ),
    "transposed and flipped": (transposed, transposed, turn, MAPS, "transposed convolutions' kernels are flipped"),
}  # fmt: skip
BEFORE = {"lstm bias twice": no_second_bias}


def filled(model, seed=0):
    """The model with values that no symmetry hides, negative means included."""
    generator = torch.Generator().manual_seed(seed)
    for name, array in model.state_dict().items():
        if array.is_floating_point():
            values = torch.rand(array.shape, generator=generator)
            array.copy_(values + 0.5 if "var" in name else values - 0.6)
    return model.eval()
