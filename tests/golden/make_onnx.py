"""Write the ONNX golden files: `python tests/golden/make_onnx.py` with torch, tensorflow, keras, tf2onnx, onnxruntime.

Three exporters: torch's TorchScript-based one, torch's newer one (dynamo), and tf2onnx. `onnx.npz` holds for each file
`<file>/x` and `<file>/y`, the output of ONNX Runtime, and the weights as the source framework has them
(`torch/<state dict name>`, `keras/<weight path>`). `torch_external.onnx` keeps its values in `torch_external.data`.
"""

import os
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
import torch
from torch import nn

FOLDER = Path(__file__).parent


class Mixed(nn.Module):
    """Convolution with batch-norm, flatten, a dense layer of rank 3 (which becomes a MatMul), an LSTM, a GRU."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(4, eps=2e-3)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.hidden = nn.Linear(3 * 6 * 8, 4)
        self.memory = nn.LSTM(2, 3, batch_first=True)
        self.gru = nn.GRU(3, 2, batch_first=True)
        self.project = nn.Linear(2, 5)
        self.norm = nn.LayerNorm(5, eps=1e-4)

    def forward(self, x):
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.hidden(torch.flatten(self.up(x), 1)))
        x, _ = self.memory(x.reshape(-1, 2, 2))
        x, _ = self.gru(x)
        return self.norm(self.project(x))


def torch_model():
    torch.manual_seed(3)
    model = Mixed().eval()
    with torch.no_grad():
        model.stem_norm.weight.uniform_(0.5, 2)
        model.stem_norm.bias.normal_()
        model.stem_norm.running_mean.normal_()
        model.stem_norm.running_var.uniform_(0.3, 2)
        model.norm.weight.normal_()
        model.norm.bias.normal_()
    return model


def keras_model():
    keras.utils.set_random_seed(4)
    layers = keras.layers
    x = inputs = layers.Input((5, 7, 2), batch_size=2, name="image")
    x = layers.Conv2D(3, 3, padding="same", strides=2, name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Flatten()(x)
    model = keras.Model(inputs, layers.Dense(4, name="logits")(x))
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.3, 2, w.shape).astype("float32") for w in model.get_weights()])
    return model


def main():
    found = {}
    model = torch_model()
    x = torch.randn(2, 2, 5, 7)
    found |= {f"torch/{name}": value.numpy() for name, value in model.state_dict().items()}
    options = {"input_names": ["image"], "output_names": ["rows"], "opset_version": 17}
    script = {"dynamo": False, **options}
    training = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(model, (x,), FOLDER / "torch_folded.onnx", **script)
    torch.onnx.export(
        model, (x,), FOLDER / "torch_unfolded.onnx", do_constant_folding=False, training=training, **script
    )
    torch.onnx.export(
        model, (x,), FOLDER / "torch_dynamo.onnx", dynamo=True, external_data=False, verbose=False,
        **{**options, "opset_version": 18},
    )  # fmt: skip
    external = onnx.load(FOLDER / "torch_unfolded.onnx")
    (FOLDER / "torch_external.data").unlink(missing_ok=True)  # onnx refuses to replace it
    onnx.save(external, FOLDER / "torch_external.onnx", save_as_external_data=True, location="torch_external.data",
              size_threshold=64)  # fmt: skip
    source = keras_model()
    found |= {f"keras/{weight.path}": weight.numpy() for weight in source.weights}
    signature = (tf.TensorSpec((2, 5, 7, 2), tf.float32, name="image"),)
    tf2onnx.convert.from_function(tf.function(source), signature, opset=17, output_path=str(FOLDER / "tf2onnx.onnx"))
    names = ("torch_folded", "torch_unfolded", "torch_dynamo", "torch_external", "tf2onnx")
    for name in names:
        session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx")
        given = (
            x.numpy() if name.startswith("torch") else np.random.default_rng(6).normal(size=(2, 5, 7, 2)).astype("f4")
        )
        found[f"{name}/x"] = given
        found[f"{name}/y"] = session.run(None, {session.get_inputs()[0].name: given})[0]
    versions = {m.__name__: m.__version__ for m in (torch, onnx, onnxruntime, tf2onnx, keras, tf)}
    np.savez_compressed(FOLDER / "onnx.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
