"""Networks of keras.applications with random weights, as .keras and .h5 files, and their outputs on random images.

In an environment with Keras 3 and a backend, for instance KERAS_BACKEND=torch:

    python benchmarks/write_keras_networks.py OUT/ MobileNetV2 ResNet50 …

Norms get random statistics, so that a scale, a shift or an eps in the wrong place shows. The outputs are scores before
the softmax, which would hide differences.
"""

import inspect
import sys
from pathlib import Path

import keras
import numpy as np


def write(name: str, folder: Path) -> None:
    """NAME.keras, NAME.h5 and NAME.npz with x and y."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(weights=None, classes=10, classifier_activation=None)
    for weight in model.weights:
        leaf, value = weight.path.split("/")[-1], weight.shape
        if leaf in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0, 0.1, value).astype("float32"))
        elif leaf in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 1.5, value).astype("float32"))
    shape = tuple(size or 224 for size in model.input_shape[1:])
    own = "include_preprocessing" in inspect.signature(make).parameters
    x = rng.uniform(0, 255 if own else 1, (2, *shape)).astype("float32")
    y = model.predict(x, verbose=0)
    model.save(folder / f"{name}.keras")
    model.save(folder / f"{name}.h5")
    np.savez(folder / f"{name}.npz", x=x, y=y)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for each in sys.argv[2:]:
        write(each, out)
        print(each, flush=True)
