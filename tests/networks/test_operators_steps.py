"""How steps are written."""

import pytest

from regraft.networks.axis_orders import Held
from regraft.networks.operators import OperatorCall
from regraft.networks.operators_steps import STEPS

MAP = Held("x", (2, 8, 9, 9), order=(0, 1, 2, 3))


@pytest.mark.parametrize(
    ("operator", "settings", "expected"),
    [
        ("max_pool", {"kernel": (3, 3), "stride": (2, 2)}, "F.max_pool2d(x, 3, 2)"),
        ("avg_pool", {"kernel": (2, 2)}, "F.avg_pool2d(x, 2)"),
        ("max_pool", {"kernel": (3, 3), "stride": (2, 2), "padding": "same"}, "max_pool_padded(x, 3, 2, 'same')"),
        ("mean", {"axes": (2, 3), "keepdim": False}, "x.mean((2, 3))"),
        ("clamp", {"min": 0, "max": 6}, "F.relu6(x)"),
        ("resize", {"scale": (2, 2), "mode": "nearest"}, "F.interpolate(x, scale_factor=2)"),
        ("slice", {"axes": (2,), "starts": (1,), "ends": (None,)}, "x[:, :, 1:]"),
        ("reshape", {"shape": (0, -1)}, "torch.flatten(x, 1)"),
        ("pad", {"pads": ((0, 0), (0, 0), (1, 1), (0, 0))}, "F.pad(x, (0, 0, 1, 1))"),
    ],
)
def test_a_step_is_written_as_a_person_would(operator, settings, expected):
    """Without what torch does anyway."""
    assert STEPS[operator].written(OperatorCall(settings, ("x",), (MAP,))) == expected
