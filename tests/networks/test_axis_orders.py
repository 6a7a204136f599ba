"""In which order steps take the axes of the file."""

import pytest
import torch

from regraft.networks.axis_orders import Held, along, any_order, channels_second, moved, per_axis, reduced, spread

MAP = Held("x", (2, 8, 4, 5), order=(0, 3, 1, 2))  # kept as (n, h, w, c) = (2, 4, 5, 8) in the file


def test_an_axis_of_the_file_is_found_in_the_code():
    """The last axis of the file is the second one of the code."""
    assert along("axis")({"axis": -1}, [MAP]).settings == {"axis": 1}


def test_reduced_axes_leave_the_rest_in_its_order():
    """The mean over h and w of (n, h, w, c) is (n, c)."""
    arrangement = reduced({"axes": (1, 2), "keepdim": False}, [MAP])

    assert arrangement.settings == {"axes": (2, 3)}
    assert arrangement.output == (0, 1)


def test_values_with_an_entry_for_each_axis_move_with_them():
    """Widths of a padding."""
    pads = ((0, 0), (1, 2), (3, 4), (0, 0))

    assert per_axis("pads")({"pads": pads}, [MAP]).settings == {"pads": ((0, 0), (0, 0), (1, 2), (3, 4))}


def test_inputs_share_the_order_that_is_not_the_file_s():
    """A sum of a map in the code's order and one in the file's."""
    other = Held("y", (2, 4, 5, 8), order=(0, 1, 2, 3))

    assert any_order({}, [other, MAP]).inputs == (MAP.order, MAP.order)
    assert moved(other.order, MAP.order) == (0, 3, 1, 2)
    assert channels_second(3) == (0, 2, 1)


CHANNELS_FIRST = (0, 3, 1, 2)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 1, 4), (1,)])
@pytest.mark.parametrize("text", ["self.bias", "y"])
def test_a_tensor_spreads_as_in_the_file(shape, text):
    """The sum of the turned ones is the turned sum."""
    x, y = torch.randn(2, 2, 3, 4), torch.randn(*shape)
    turned = spread(Held(text, shape, order=tuple(range(len(shape)))), CHANNELS_FIRST)

    frame = {"y": y, "self": type("Model", (), {"bias": y})}
    result = x.permute(CHANNELS_FIRST) + eval(turned.text, frame)

    assert torch.equal(result, (x + y).permute(CHANNELS_FIRST))


def test_in_the_files_own_order_nothing_is_done():
    """Broadcasting is the same."""
    value = Held("y", (4,), order=(0,))

    assert spread(value, (0, 1, 2)) is value
