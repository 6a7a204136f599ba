"""Exported programs of torch."""

import json
import zipfile

import numpy as np
import pytest
import torch

from regraft.errors import CheckpointError
from regraft.formats.torch_export import TorchExport
from regraft.reading import open_checkpoint


class Net(torch.nn.Module):
    """Tied, half-precision and complex weights, and a buffer."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3, dtype=torch.bfloat16)
        self.second = torch.nn.Linear(3, 3, dtype=torch.bfloat16)
        self.second.weight = self.first.weight
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64) * 1j)

    def forward(self, x):
        return self.second(self.first(x)), self.phase * 2


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(path, state dict); torch takes seconds to export."""
    path, model = tmp_path_factory.mktemp("export") / "m.pt2", Net()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, dtype=torch.bfloat16),)), path)
    return path, model.state_dict()


def test_the_weights_of_an_exported_program_have_its_state_dict_s_names(exported):
    """Nothing is run; ties are read twice, bfloat16 is widened."""
    path, state = exported

    checkpoint = open_checkpoint(path)

    assert checkpoint.format == "torch-export"
    assert set(checkpoint) == set(state)
    for name, tensor in state.items():
        wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(checkpoint.read(name), wide.numpy(), strict=True)


@pytest.mark.parametrize(("change", "told"), [
    ({"path_name": "../../x"}, "description of the weights is damaged"),
    ({"use_pickle": True}, "refused, .* is pickled"),
    ({"tensor_meta": {"dtype": 7, "sizes": [{"as_int": 1 << 40}], "strides": [{"as_int": 1}],
                      "storage_offset": {"as_int": 0}}}, "does not fit its storage"),
    ({"tensor_meta": {"dtype": 7, "sizes": [{"as_int": -1}], "strides": [{"as_int": 1}],
                      "storage_offset": {"as_int": 0}}}, "does not fit its storage"),
    ({"tensor_meta": 3}, "description of the weights is damaged"),
])  # fmt: skip
def test_descriptions_that_lie_are_refused(exported, tmp_path, change, told):
    """Names outside, pickles, sizes that the archive does not hold."""
    with zipfile.ZipFile(exported[0]) as archive, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("model_weights_config.json"):
                described = json.loads(content)
                described["config"]["first.weight"] |= change
                content = json.dumps(described)
            bad.writestr(name, content)

    with pytest.raises(CheckpointError, match=told):
        TorchExport().open(tmp_path / "bad.pt2")
