"""Write the Keras golden files: `python tests/golden/make_keras.py` with keras, tensorflow and tf_keras installed.

Two small networks with random weights and statistics, an image network (nested model, depthwise, separable and
transposed convolutions, flatten) and a sequence network (bidirectional, both GRU forms, attention, time-distributed),
each written by Keras 3 as .keras, .weights.h5 and .h5 and by tf_keras (Keras 2) as .h5 and as a weights-only .h5.
`<network>.npz` holds for each writer the input `x`, the output `y` and every weight under the name that its layer has
in memory (`w/<layer path>/<weight>`), so that a reader is compared with the framework and not with itself.
"""

import os
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import tf_keras

FOLDER = Path(__file__).parent


def image_network(k):
    """5 × 7 × 2 images to 3 numbers; odd and unequal sizes, so that no swap goes unnoticed."""
    layers = k.layers
    block = k.Sequential(name="block", layers=[
        layers.Input((3, 4, 8)),
        layers.Conv2D(5, (1, 3), padding="valid", name="conv"),
        layers.BatchNormalization(epsilon=2e-3, scale=False, name="norm"),
    ])  # fmt: skip
    x = inputs = layers.Input((5, 7, 2), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(momentum=0.9, name="stem_norm")(x)
    x = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same", activation="relu", name="depthwise")(x)
    x = block(x)
    x = layers.SeparableConv2D(6, 2, padding="same", depth_multiplier=2, name="separable")(x)
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same", name="up")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="slope")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(4, activation="relu", name="hidden")(x)
    return k.Model(inputs, layers.Dense(3, name="logits")(x), name="image_network")


def sequence_network(k):
    """6 tokens to 6 rows of 2 numbers."""
    layers = k.layers
    x = inputs = layers.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(11, 4, name="embed")(x)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both_ways")(x)
    x = layers.LSTM(4, return_sequences=True, name="memory")(x)
    x = layers.GRU(4, return_sequences=True, reset_after=True, name="gru")(x)
    x = layers.GRU(4, return_sequences=True, reset_after=False, name="old_gru")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Conv1D(4, 2, dilation_rate=2, padding="causal", name="causal")(x)
    return k.Model(inputs, layers.TimeDistributed(layers.Dense(2), name="each")(x), name="sequence_network")


def randomise(model, seed):
    """Random weights, and variances that are positive and not 1."""
    rng = np.random.default_rng(seed)
    model.set_weights([
        (rng.uniform(0.3, 2, w.shape) if "variance" in v.name else rng.normal(0, 0.4, w.shape)).astype(w.dtype)
        for v, w in zip(model.weights, model.get_weights(), strict=True)
    ])  # fmt: skip


def weights_of(model):
    """Every weight under its layer's path and its own name, as the framework holds it."""
    found = {}

    def walk(layer, path):
        inner = layer.layers if hasattr(layer, "layers") else []
        for one in inner:
            walk(one, f"{path}/{one.name}" if path else one.name)
        if not inner:
            for variable, value in zip(layer.weights, layer.get_weights(), strict=True):
                # `path` (Keras 3) or `name` (Keras 2): the part after the layer's own name
                parts = getattr(variable, "path", variable.name).split(":")[0].split("/")
                at = parts.index(layer.name) + 1 if layer.name in parts else 0
                found["w/" + "/".join([path, *parts[at:]])] = value

    walk(model, "")
    return found


def main():
    for name, network in (("image", image_network), ("sequence", sequence_network)):
        for framework, k, seed in (("keras3", keras, 1), ("tf_keras", tf_keras, 2)):
            k.utils.set_random_seed(seed)
            k.backend.clear_session()
            model = network(k)
            randomise(model, seed)
            rng = np.random.default_rng(5)
            x = rng.normal(size=(2, 5, 7, 2)).astype("float32") if name == "image" else rng.integers(0, 11, (2, 6))
            y = model.predict(x, verbose=0)
            stem = FOLDER / f"{framework}_{name}"
            versions = f"keras {keras.__version__} tf_keras {tf_keras.__version__} numpy {np.__version__}"
            np.savez_compressed(f"{stem}.npz", x=x, y=y, versions=versions, **weights_of(model))
            model.save(f"{stem}.h5")
            if k is keras:
                model.save(f"{stem}.keras")
                model.save_weights(f"{stem}.weights.h5")
            else:
                model.save_weights(f"{stem}_weights_only.h5")
                model.save(f"{stem}.keras")


if __name__ == "__main__":
    main()
