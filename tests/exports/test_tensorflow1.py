"""A TensorFlow 1 checkpoint of a trained model. TensorFlow itself restored one: tests/golden/README.md."""

import numpy as np
import pytest
import torch

import regraft
from regraft.errors import SaveError
from regraft.exporting import export
from trained_runs import net, tensorflow_run


def test_the_trained_variables_have_their_source_names(tmp_path):
    """Read again as TensorFlow's checkpoint, they give the model."""
    exported, _ = tensorflow_run(tmp_path)
    folder = export(exported.folder, "tf1", tmp_path / "tf1", model=net(), shape=(2, 8, 8))

    checkpoint = regraft.open_checkpoint(folder / "model.ckpt")
    again = net()
    regraft.apply_plan(regraft.plan_reuse(checkpoint, again), checkpoint, again)

    assert checkpoint.format.startswith("tensorflow")
    assert checkpoint.keys() == {name.replace(".", "/") for name in (
        "0.kernel", "0.bias", "1.gamma", "1.beta", "1.moving_mean", "1.moving_variance", "5.kernel", "5.bias"
    )}  # fmt: skip
    inputs = torch.randn(3, 2, 8, 8)
    assert torch.equal(again.eval()(inputs), exported.model(inputs))
    assert "New layers in the place of old ones, perhaps of another size: 5/bias, 5/kernel." in (
        folder / "README.txt"
    ).read_text(encoding="utf-8")


def test_a_model_of_torch_is_refused(tmp_path):
    """TensorFlow has no names for its layers."""
    from safetensors.torch import save_file

    save_file(net().state_dict(), tmp_path / "m.safetensors")
    checkpoint, model = regraft.open_checkpoint(tmp_path / "m.safetensors"), net()
    plan = regraft.plan_reuse(checkpoint, model)
    regraft.apply_plan(plan, checkpoint, model)
    regraft.save(model, tmp_path / "run", plan=plan)
    with pytest.raises(SaveError, match=r"m.safetensors \(safetensors\) and not from TensorFlow or Keras"):
        export(tmp_path / "run", "tf1", model=net())
    regraft.save(model, tmp_path / "bare")
    with pytest.raises(SaveError, match="has no plan"):
        export(tmp_path / "bare", "tf1", model=net())
    assert np.all([path.name in ("m.safetensors", "run", "bare") for path in tmp_path.iterdir()])
