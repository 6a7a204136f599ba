"""How operators are written."""

from regraft.networks.axis_orders import Held
from regraft.networks.operators import Operator, OperatorCall, arguments, flat_pads, python


def test_settings_are_written_as_python():
    """One number where all axes have the same; nothing for None."""
    assert arguments(3, (3, 3), stride=(2, 1), bias=None) == "3, 3, stride=(2, 1)"
    assert python((1,)) == "(1,)"
    assert python(float("inf")) == 'float("inf")'


def test_a_template_takes_inputs_and_settings():
    """By position and by name."""
    call = OperatorCall({"slope": 0.1}, ("x",), (Held("x", (2,)),))

    assert Operator("F.leaky_relu({0}, {slope})").written(call) == "F.leaky_relu(x, 0.1)"


def test_pads_begin_with_the_last_axis():
    """As F.pad takes them."""
    assert flat_pads(((0, 0), (0, 0), (1, 2), (3, 4))) == (3, 4, 1, 2)
