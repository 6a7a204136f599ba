"""The constructors of layers."""

import pytest

from regraft.errors import BuildError
from regraft.networks.axis_orders import Held
from regraft.networks.operators import OperatorCall
from regraft.networks.operators_layers import LAYERS

MAP = (Held("x", (2, 8, 9, 9), order=(0, 1, 2, 3)),)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"padding": "valid"}, ("nn.Conv2d(8, 16, 3, bias=False)", "self.c(x)")),
        ({"padding": "same"}, ("nn.Conv2d(8, 16, 3, padding=1, bias=False)", "self.c(x)")),
        ({"padding": "same", "stride": (2, 2)}, ("Conv2dSame(8, 16, 3, stride=2, bias=False)", "self.c(x)")),
        ({"padding": ((0, 1), (0, 1))}, ("nn.Conv2d(8, 16, 3, bias=False)", "self.c(F.pad(x, (0, 1, 0, 1)))")),
        (
            {"dilation": (2, 2), "padding": "same"},
            ("nn.Conv2d(8, 16, 3, padding=2, dilation=2, bias=False)", "self.c(x)"),
        ),
    ],
)
def test_a_convolution_pads_as_the_file_says(settings, expected):
    """By torch's own padding where that is the same."""
    call = OperatorCall(settings, ("x",), MAP, {"weight": (16, 8, 3, 3)}, "self.c")

    assert (LAYERS["conv"].layer(call), LAYERS["conv"].written(call)) == expected


def test_a_transposed_convolution_cuts_what_torch_cannot():
    """TensorFlow's "same" cuts the odd one after the map."""
    call = OperatorCall(
        {"padding": ((0, 1), (1, 1)), "stride": (2, 2)}, ("x",), MAP, {"weight": (8, 4, 3, 3)}, "self.up"
    )

    assert LAYERS["conv_transpose"].layer(call) == "nn.ConvTranspose2d(8, 4, 3, stride=2, padding=(0, 1), bias=False)"
    assert LAYERS["conv_transpose"].written(call) == "self.up(x)[..., :-1, :]"


@pytest.mark.parametrize(("size", "fits"), [((18, 18), True), ((17, 17), False)])
def test_a_transposed_convolution_to_another_size_than_its_stride_gives_is_refused(size, fits):
    """TensorFlow's output may be one smaller: then other rows are cut."""
    settings = {"stride": (2, 2), "padding": ((0, 1), (0, 1)), "size": size}
    call = OperatorCall(settings, ("x",), MAP, {"weight": (8, 4, 3, 3)}, "self.up")

    if fits:
        assert LAYERS["conv_transpose"].written(call).startswith("self.up(x)")
    else:
        with pytest.raises(BuildError, match=r"to the size \(17, 17\): its stride gives \(18, 18\)"):
            LAYERS["conv_transpose"].written(call)
