"""Core ML's files and packages: the arrays are those that coremltools was given, and a torch twin takes them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from regraft.errors import CheckpointError
from regraft.formats.coreml import CoreML
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
# The layers of the neural network, whose writer keeps no other names than those of the operations.
OF_OPERATIONS = {"a": "conv1", "c": "bn1", "e_has_output_shape": "up", "g": "block_0_fc"}


def truth():
    with np.load(GOLDEN / "coreml.npz") as arrays:
        return dict(arrays)


def named(checkpoint):
    """The arrays under the names of the golden script."""
    names = {f"{old}_cast_fp16": new for old, new in OF_OPERATIONS.items()}
    return {f"{names.get(info.layer, info.layer)}_{info.leaf}": name for name, info in checkpoint.items()}


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("coreml.mlpackage", 0),
        ("coreml_half.mlpackage", 2**11),
        ("coreml_int8.mlpackage", 127),
        ("coreml_table.mlpackage", 7.5),
        ("coreml.mlmodel", 2**11),
        ("coreml_linear.mlmodel", 7.5),
    ],
)
def test_every_array_is_the_one_that_the_writer_was_given(name, steps):
    """Exactly, or to half a step of what it was rounded to: that many steps from 0 to its largest value."""
    checkpoint, arrays = open_checkpoint(GOLDEN / name), truth()

    names = named(checkpoint)

    assert set(names) == {name for name in arrays if "_" in name and not name.startswith("weight_")}
    for golden, stored in names.items():
        values, bound = checkpoint.read(stored), np.abs(arrays[golden]).max() / steps if steps else 0
        assert np.abs(values - arrays[golden]).max() <= bound * 1.01, golden


class Twin(nn.Module):
    """The golden network, with dots in its names where Core ML has underscores."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, stride=(2, 1), padding=(1, 1)), nn.BatchNorm2d(4, eps=1e-3)
        self.up, self.block = nn.ConvTranspose2d(4, 5, 2, stride=2), nn.ModuleList([nn.ModuleDict()])
        self.block[0]["fc"] = nn.Linear(5, 3)


def test_a_twin_takes_the_arrays_and_is_told_of_the_padding():
    """1 above and below; nothing on the left, and 2 on the right."""
    checkpoint, model, arrays = open_checkpoint(GOLDEN / "coreml.mlpackage"), Twin(), truth()

    plan = plan_reuse(checkpoint, model)
    apply_plan(plan_reuse(checkpoint, model, accept=[r"conv1\.padding"]), checkpoint, model)

    assert [(row.name, row.required) for row in plan.requirements if row.is_problem] == [
        ("conv1.padding", ((1, 1), (0, 2)))
    ]
    for name, values in (
        ("conv1.weight", "conv1_weight"),
        ("bn1.running_var", "bn1_variance"),
        ("up.weight", "up_weight"),
    ):
        assert np.array_equal(model.state_dict()[name].numpy(), arrays[values])
    assert np.array_equal(model.state_dict()["block.0.fc.weight"].numpy(), arrays["block_0_fc_weight"])


@pytest.mark.parametrize("name", ["coreml_cell.mlpackage", "coreml_cell.mlmodel"])
def test_gates_are_put_in_the_order_of_torch(name):
    """The program keeps gates i f o g in one array, the neural network one array for each: both are one cell."""
    checkpoint, arrays = open_checkpoint(GOLDEN / name), truth()
    layer = next(info.layer for info in checkpoint.values() if info.layer_type == "LSTM")
    model = nn.ModuleDict({"cell": nn.LSTM(4, 3)})

    apply_plan(plan_reuse(checkpoint, model, rename={rf"{layer}[./](.*)": r"cell.\1"}), checkpoint, model)

    i, f, o, g = np.split(arrays["weight_ih"], 4)
    half = 0 if name.endswith("package") else 2e-3  # the neural network was converted by way of float16
    assert np.abs(model["cell"].weight_ih_l0.detach().numpy() - np.concatenate([i, f, g, o])).max() <= half
    i, f, o, g = np.split(arrays["bias"], 4)
    total = model["cell"].bias_ih_l0 + model["cell"].bias_hh_l0
    assert np.abs(total.detach().numpy() - np.concatenate([i, f, g, o])).max() <= half


def test_settings_and_connections_are_recorded():
    facts = {}
    for fact in open_checkpoint(GOLDEN / "coreml.mlpackage").requirements:
        facts.setdefault(fact.layer, {})[fact.attribute] = fact.value

    assert facts["conv1"]["padding"] == [[1, 1], [0, 2]]
    assert facts["conv1"]["strides"] == [2, 1]
    assert facts["bn1"] == {"inputs": ["b"], "operation": "BatchNorm", "eps": 0.001}
    assert facts["block_0_fc"]["inputs"] == ["f"]


def package(folder, **changes):
    """A copy of the golden package with another manifest."""
    shutil.copytree(GOLDEN / "coreml.mlpackage", folder / "m.mlpackage")
    manifest = folder / "m.mlpackage" / "Manifest.json"
    known = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**known, **changes}))
    return folder / "m.mlpackage"


@pytest.mark.parametrize(
    "changes",
    [
        {"rootModelIdentifier": "another"},
        {"itemInfoEntries": 3},
        {"rootModelIdentifier": "x", "itemInfoEntries": {"x": {"path": "../../../etc/passwd"}}},
        {"rootModelIdentifier": "x", "itemInfoEntries": {"x": {"path": "com.apple.CoreML/none"}}},
    ],
)
def test_a_manifest_that_names_no_model_of_the_package_is_refused(tmp_path, changes):
    with pytest.raises(CheckpointError, match=r"Manifest\.json"):
        open_checkpoint(package(tmp_path, **changes))


def test_a_package_without_its_weights_is_refused(tmp_path):
    path = package(tmp_path)
    next(path.rglob("weight.bin")).unlink()

    with pytest.raises(CheckpointError, match=r"weight\.bin is missing\. Copy the whole package"):
        open_checkpoint(path)


@pytest.mark.parametrize("part", ["weight.bin", "model.mlmodel"])
def test_a_damaged_package_is_read_or_refused(tmp_path, part):
    """Every byte flipped in turn, or the file cut there: no other error, and no hang."""
    path = package(tmp_path)
    file = next(path.rglob(part))
    whole = file.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        flipped = bytes([*whole[:position], whole[position] ^ 0x5A, *whole[position + 1 :]])
        for content in (flipped, whole[:position]):
            file.write_bytes(content)
            try:
                checkpoint = open_checkpoint(path, formats=(CoreML(),))
                [checkpoint.read(name) for name in checkpoint]
            except CheckpointError:
                pass


@pytest.mark.parametrize("name", ["coreml.mlmodel", "coreml_linear.mlmodel", "coreml_cell.mlmodel"])
def test_a_damaged_file_is_read_or_refused(tmp_path, name):
    whole = (GOLDEN / name).read_bytes()
    path = tmp_path / "m.mlmodel"
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        flipped = bytes([*whole[:position], whole[position] ^ 0x5A, *whole[position + 1 :]])
        for content in (flipped, whole[:position]):
            path.write_bytes(content)
            try:
                checkpoint = open_checkpoint(path, formats=(CoreML(),))
                [checkpoint.read(name) for name in checkpoint]
            except CheckpointError:
                pass


def test_a_model_of_no_network_is_refused(tmp_path):
    """A tree ensemble has no arrays that a network could take."""
    (tmp_path / "m.mlmodel").write_bytes(b"\x08\x01\x12\x00")

    with pytest.raises(CheckpointError, match="neither a neural network nor an ML program with weights"):
        open_checkpoint(tmp_path / "m.mlmodel", formats=(CoreML(),))
