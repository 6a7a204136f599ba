"""Write keras.applications networks with random weights and statistics, and their outputs.

    .venv-golden/bin/python benchmarks/twins_keras.py FOLDER [NAME …]

Files for each network: NAME.keras, NAME.h5, and NAME.npz with an input x (n, h, w, 3) and the logits y. If the network
scales pixels itself, x is its input after this scaling. Nothing is downloaded.
"""

import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np

NAMES = (
    "ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2", "VGG16", "VGG19",
    "DenseNet121", "DenseNet169", "DenseNet201", "MobileNet", "MobileNetV2", "MobileNetV3Small",
    "MobileNetV3Large", "InceptionV3", "InceptionResNetV2", "Xception", "EfficientNetB0", "EfficientNetB1",
    "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny", "ConvNeXtSmall",
)  # fmt: skip


def randomise(model: keras.Model, generator: np.random.Generator) -> None:
    """Give every array new random values, scaled so that activations stay near 1 in a deep network."""
    for variable in model.variables:
        shape, leaf = tuple(variable.shape), variable.path.rpartition("/")[2]
        if "seed" in leaf or leaf == "count":
            continue
        noise = generator.standard_normal(shape).astype("float32")
        if leaf in ("kernel", "depthwise_kernel", "pointwise_kernel"):
            fan_in = np.prod(shape[:-2]) if "depthwise" in variable.path else np.prod(shape[:-1])
            variable.assign(noise * np.sqrt(1.6 / max(fan_in, 1)))
        elif leaf in ("gamma", "moving_variance", "variance"):
            variable.assign(0.9 + 0.1 * np.abs(noise))
        else:
            variable.assign(0.1 * noise)


def write(name: str, folder: Path) -> None:
    """Write the files of one network, unless they exist."""
    if (folder / f"{name}.npz").is_file():
        return
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    randomise(model, generator)
    size = model.input_shape[1] or 224
    # These networks start with a layer that scales 0..255.
    top = 255 if name.startswith(("Efficient", "ConvNeXt", "MobileNetV3")) else 1
    x = generator.uniform(0, top, (2, size, size, 3)).astype("float32")
    model.save(folder / f"{name}.keras")
    model.save(folder / f"{name}.h5")
    scaled = [layer for layer in model.layers[:6] if type(layer).__name__ in ("Rescaling", "Normalization")]
    inner = keras.Model(model.input, scaled[-1].output).predict(x, verbose=0) if scaled else x
    np.savez(folder / f"{name}.npz", x=inner, y=model.predict(x, verbose=0))
    print(name, model.count_params(), flush=True)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for wanted in sys.argv[2:] or NAMES:
        write(wanted, target)
