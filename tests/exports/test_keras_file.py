"""Keras files of trained models. Keras itself loaded such files: tests/golden/README.md."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch

import regraft
from golden_files import GOLDEN, golden_arrays
from regraft.building import planned_network
from regraft.errors import SaveError, VerifyError
from regraft.exporting import export
from regraft.exports.keras_file import write_keras
from trained_runs import exported_of, tensorflow_run, trained

SHAPE = (2, 5, 7)


def keras_run(folder, name, *, head=None, train=True):
    """The network of a golden file, trained where its plan has an array, saved beside a copy of the file."""
    shutil.copy(GOLDEN / name, folder / name)
    checkpoint = regraft.open_checkpoint(folder / name)
    torch.manual_seed(0)
    built = planned_network(checkpoint, head=head)
    regraft.apply_plan(built.plan, checkpoint, built.model)
    names = {row.target for row in built.plan.rows if row.sources or not row.is_reused} if train else ()
    return exported_of(trained(built.model, names), built.plan, folder / "run", torch.zeros(2, *SHAPE))[0]


@pytest.mark.parametrize("name", ["keras3_image.keras", "keras3_image.h5", "tf_keras_image.keras"])
@pytest.mark.parametrize("head", [None, {"classes": 5}])
def test_the_files_network_gives_the_trained_models_outputs(tmp_path, name, head):
    """Also with a new head of another size."""
    exported = keras_run(tmp_path, name, head=head)
    out = tmp_path / f"out{(tmp_path / name).suffix}"
    write_keras(exported, out)
    inputs = torch.randn(4, *SHAPE)
    with torch.no_grad():
        ours, theirs = exported.model(inputs), regraft.build_model(regraft.open_checkpoint(out))(inputs)
    assert torch.allclose(ours, theirs, atol=1e-6)  # the same layers in the same order, built twice
    assert ours.shape[1] == (3 if head is None else 5)


def test_a_model_that_was_restored_by_a_plan_is_written(tmp_path):
    """`plan_reuse` notes the axis order of a Keras file as TensorFlow's; the file is a Keras file nevertheless."""
    shutil.copy(GOLDEN / "keras3_image.keras", tmp_path)
    checkpoint = regraft.open_checkpoint(tmp_path / "keras3_image.keras")
    model = planned_network(checkpoint).model
    plan = regraft.plan_reuse(checkpoint, model, accept=r"up\.padding")  # its forward pads
    regraft.apply_plan(plan, checkpoint, model)
    exported, _ = exported_of(model, plan, tmp_path / "run", torch.zeros(2, *SHAPE))
    write_keras(exported, tmp_path / "out.keras")
    inputs = torch.randn(4, *SHAPE)
    with torch.no_grad():
        theirs = regraft.build_model(regraft.open_checkpoint(tmp_path / "out.keras"))(inputs)
        assert torch.allclose(model(inputs), theirs, atol=1e-6)  # the same layers in the same order, built twice


def test_a_model_from_another_file_is_refused(tmp_path):
    """Arrays in TensorFlow's axis order are no Keras file."""
    exported, _ = tensorflow_run(tmp_path)
    with pytest.raises(SaveError, match="and not from a Keras file"):
        write_keras(exported, tmp_path / "out.keras")


def test_an_untrained_model_has_the_outputs_that_keras_recorded(tmp_path):
    """Of the file it came from."""
    exported = keras_run(tmp_path, "keras3_image.keras", train=False)
    write_keras(exported, tmp_path / "out.keras")
    golden = golden_arrays("keras3_image.npz")
    built = regraft.build_model(regraft.open_checkpoint(tmp_path / "out.keras"))
    with torch.no_grad():
        outputs = built(torch.from_numpy(np.moveaxis(golden["x"], -1, 1).copy())).numpy()
    assert np.allclose(outputs, golden["y"], atol=1e-5)  # sums in another order


def test_the_archive_is_as_keras_writes_it(tmp_path):
    """Stored, with all its members, and without the old training."""
    exported = keras_run(tmp_path, "keras3_image.keras", head={"classes": 5})
    write_keras(exported, tmp_path / "out.keras")
    with zipfile.ZipFile(tmp_path / "out.keras") as made, zipfile.ZipFile(tmp_path / "keras3_image.keras") as source:
        assert sorted(made.namelist()) == sorted(source.namelist())
        assert all(member.compress_type == zipfile.ZIP_STORED for member in made.infolist())
        config = json.loads(made.read("config.json"))
    assert config["compile_config"] is None
    logits = next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == "logits")
    assert logits["config"]["units"] == 5


def test_what_cannot_be_written_is_refused(tmp_path):
    """A file that is gone, another suffix, a model that does something else."""
    exported = keras_run(tmp_path, "keras3_image.keras")
    with pytest.raises(SaveError, match=r"came from a .keras file. Write one: --out model.keras"):
        write_keras(exported, tmp_path / "out.h5")

    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.__dict__["inner"] = inner

        def forward(self, x):
            return 2 * self.inner(x)

        def state_dict(self):
            return self.inner.state_dict()

    other = Doubled(exported.model)
    with pytest.raises(VerifyError, match="gives other outputs than the model"):
        write_keras(type(exported)(exported.folder, other, exported.record, exported.example), tmp_path / "out.keras")
    assert not (tmp_path / "out.keras").exists()
    (tmp_path / "keras3_image.keras").unlink()
    with pytest.raises(SaveError, match="that the layers came from is not there"):
        write_keras(exported, tmp_path / "out.keras")


def test_the_command_writes_it_beside_the_run(tmp_path):
    """By the format's name."""
    keras_run(tmp_path, "keras3_image.keras")
    built = planned_network(regraft.open_checkpoint(tmp_path / "keras3_image.keras")).model
    assert export(tmp_path / "run", "keras", model=built, shape=SHAPE).name == "model.keras"
