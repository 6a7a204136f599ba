"""Files whose groups are named after attributes and classes, and whose weights are numbered."""

import h5py
import numpy as np
import pytest

from golden_files import GOLDEN
from regraft.formats.keras import KerasH5


def test_an_undecidable_scale_or_center_is_named_so():
    """Three weights of a batch-norm without a description: the first may be either."""
    checkpoint = KerasH5().open(GOLDEN / "keras3_image.weights.h5")

    assert "does not record which is which" in checkpoint["block/norm/gamma_or_beta"].note
    assert checkpoint["block/norm/moving_variance"].layer_type == "BatchNormalization"


@pytest.mark.parametrize(("folder", "role"), [("layers/optimizer", "weight"), ("optimizer", "optimizer_slot")])
def test_only_what_lies_beside_the_layers_is_the_optimizer_s(tmp_path, folder, role):
    """A layer may be called so too."""
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 4), np.float32)
        file[f"{folder}/vars/0"] = np.ones((2, 3), np.float32)

    roles = {name.split("/")[0]: info.role for name, info in KerasH5().open(path).items()}

    assert roles == {"dense": "weight", "optimizer": role}
