"""W1: the network of the book's chapter, one epoch on the cached outputs of hidden2: 275 steps of batch 200, 1 thread.

    python benchmarks/w1_chapter.py

All contenders train hidden3, hidden4 and outputs (50-50-20-10, ReLU) by plain gradient descent, learning rate 0.01, on
the same 55,000 shuffled rows. Work that is done once (tracing, sessions) is not counted. Keras is measured twice: `fit`
on features against a cached epoch, and `predict` of the features with that `fit` against the same two in regraft.
"""

import gzip
import os
import sys
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "book_chapter"))

import numpy as np
import torch
from harness import Contender, Goal, needs_shared, report, take_turns
from network import ChapterNet
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import regraft

torch.set_num_threads(1)
MNIST = needs_shared("data", "mnist")
BATCH, STEPS, RATE = 200, 275, 0.01
SOLVER = regraft.Steps(optimizer="sgd", lr=RATE, batch_size=BATCH, epochs=2)
HEAD = ("hidden3", "hidden4", "outputs")
GUIDES = {
    "eager": "[Optimizing Model Parameters](https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html)",
    "loader": "[Datasets & DataLoaders](https://docs.pytorch.org/tutorials/beginner/basics/data_tutorial.html)",
    "tensorflow": "[Géron, ch. 11, Caching the Frozen Layers](https://github.com/ageron/handson-ml/blob/master/11_deep_learning.ipynb)",
    "keras": "[Transfer learning](https://keras.io/guides/transfer_learning/)",
    "lightning": "[LightningModule](https://lightning.ai/docs/pytorch/stable/common/lightning_module.html)",
}


def pixels_or_labels(name: str, offset: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress((MNIST / name).read_bytes()), np.uint8, offset=offset)


IMAGES = pixels_or_labels("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[5000:] / np.float32(255)
LABELS = pixels_or_labels("train-labels-idx1-ubyte.gz", 8)[5000:].astype(np.int64)
START = np.load(needs_shared("checkpoints", "mnist", "side_by_side", "chapter_cached_initial.npz"))


def network() -> ChapterNet:
    """The network of the chapter with its initial arrays; hidden1 and hidden2 are frozen."""
    model = ChapterNet()
    with torch.no_grad():
        for name, layer in model.named_children():
            layer.weight.copy_(torch.from_numpy(START[f"{name}/kernel"].T))
            layer.bias.copy_(torch.from_numpy(START[f"{name}/bias"]))
    regraft.freeze(model, "hidden[12]")
    return model


MODEL = network()
TRUNK, _ = regraft.split(MODEL, torch.from_numpy(IMAGES[:2]))
FEATURES = regraft.cache_features(TRUNK, (torch.from_numpy(IMAGES), torch.from_numpy(LABELS)), batch_size=BATCH)
(CACHED,) = FEATURES.inputs.values()
TARGETS = torch.from_numpy(LABELS)


def head_layers() -> nn.Sequential:
    """The head, written by hand."""
    model = network()
    return nn.Sequential(model.hidden3, nn.ReLU(), model.hidden4, nn.ReLU(), model.outputs)


def regraft_cached() -> float:
    model = network()
    _, head = regraft.split(model, torch.from_numpy(IMAGES[:2]))
    history = regraft.train(head, FEATURES, solver=SOLVER)
    assert "traced" in history.notes[-1], history.notes
    return history.seconds[-1]


def regraft_whole() -> float:
    """Computing the features in memory, and one epoch on them."""
    data = (torch.from_numpy(IMAGES), TARGETS)
    began = time.perf_counter()
    regraft.cache_features(TRUNK, data, batch_size=BATCH)
    return time.perf_counter() - began + regraft_cached()


def regraft_uncached() -> float:
    data = (torch.from_numpy(IMAGES), TARGETS)
    return regraft.train(network(), data, solver=SOLVER).seconds[-1]


def bare_eager() -> float:
    model = head_layers()
    descent = torch.optim.SGD(model.parameters(), lr=RATE)
    began = time.perf_counter()
    for indices in torch.randperm(len(TARGETS)).split(BATCH):
        x, y = CACHED.index_select(0, indices), TARGETS.index_select(0, indices)
        descent.zero_grad()
        F.cross_entropy(model(x), y).backward()
        descent.step()
    return time.perf_counter() - began


def torch_dataloader() -> float:
    model = head_layers()
    descent = torch.optim.SGD(model.parameters(), lr=RATE)
    loader = DataLoader(TensorDataset(CACHED, TARGETS), batch_size=BATCH, shuffle=True)
    began = time.perf_counter()
    for x, y in loader:
        descent.zero_grad()
        F.cross_entropy(model(x), y).backward()
        descent.step()
    return time.perf_counter() - began


def numpy_by_hand() -> float:
    """Forward, gradient and update in NumPy: a practical lower bound for Python."""
    arrays = [START[f"{name}/{part}"].copy() for name in HEAD for part in ("kernel", "bias")]
    w1, b1, w2, b2, w3, b3 = arrays
    features = CACHED.numpy()
    began = time.perf_counter()
    for indices in np.array_split(np.random.permutation(len(LABELS)), STEPS):
        x, y, rows = features[indices], LABELS[indices], np.arange(len(indices))
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        z = h2 @ w3 + b3
        z -= z.max(1, keepdims=True)
        p = np.exp(z)
        p /= p.sum(1, keepdims=True)
        -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        p /= len(indices)
        d2 = (p @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        for array, gradient in zip(
            arrays, (x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ p, p.sum(0)), strict=True
        ):
            array -= RATE * gradient
    return time.perf_counter() - began


def tensorflow_graph():
    """The code of the book: compat.v1, cached outputs passed by `feed_dict`."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    v1, graph = tf.compat.v1, tf.Graph()
    with graph.as_default():
        x, y = v1.placeholder(tf.float32, (None, 50)), v1.placeholder(tf.int64, (None,))
        values = x
        for name in HEAD:
            kernel, bias = v1.Variable(START[f"{name}/kernel"]), v1.Variable(START[f"{name}/bias"])
            values = tf.matmul(values, kernel) + bias
            values = values if name == "outputs" else tf.nn.relu(values)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=values))
        training = v1.train.GradientDescentOptimizer(RATE).minimize(loss)
        session = v1.Session(config=v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1))
        session.run(v1.global_variables_initializer())
    features = CACHED.numpy()

    def epoch() -> float:
        began = time.perf_counter()
        shuffled = np.random.permutation(len(LABELS))
        feature_batches = np.array_split(features[shuffled], STEPS)
        label_batches = np.array_split(LABELS[shuffled], STEPS)
        for x_batch, y_batch in zip(feature_batches, label_batches, strict=True):
            session.run(training, feed_dict={x: x_batch, y: y_batch})
        return time.perf_counter() - began

    return epoch


def keras_predict_and_fit():
    """As the Keras guide: features by `predict`, then `fit` on them. Returns both together, and `fit` alone."""
    import keras

    def dense(*sizes: int) -> list[keras.layers.Layer]:
        return [keras.layers.Dense(units, activation="relu") for units in sizes]

    frozen = keras.Sequential([keras.Input((784,)), *dense(300, 50)])
    for layer, name in zip(frozen.layers, ("hidden1", "hidden2"), strict=True):
        layer.set_weights([START[f"{name}/kernel"], START[f"{name}/bias"]])
    model = keras.Sequential([keras.Input((50,)), *dense(50, 20), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(RATE), loss=loss)

    def fit(features: np.ndarray) -> float:
        began = time.perf_counter()
        model.fit(features, LABELS, batch_size=BATCH, epochs=1, verbose=0)
        return time.perf_counter() - began

    def predict_and_fit() -> float:
        began = time.perf_counter()
        features = frozen.predict(IMAGES, batch_size=BATCH, verbose=0)
        seconds = time.perf_counter() - began
        return seconds + fit(features)

    return predict_and_fit, lambda: fit(CACHED.numpy())


def lightning_trainer():
    """As the Lightning guide: a LightningModule and a DataLoader; logging and checkpoints are off."""
    import logging
    import warnings

    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Head(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = head_layers()

        def training_step(self, batch, index):
            x, y = batch
            return F.cross_entropy(self.layers(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_):
            self.began = time.perf_counter()

        def on_train_epoch_end(self, *_):
            self.seconds = time.perf_counter() - self.began

    def epoch() -> float:
        clock = Clock()
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[clock],
        )  # fmt: skip
        trainer.fit(Head(), DataLoader(TensorDataset(CACHED, TARGETS), batch_size=BATCH, shuffle=True))
        return clock.seconds

    return epoch


def main() -> None:
    graph = tensorflow_graph()  # before Keras: it sets the number of threads
    predict_and_fit, fit = keras_predict_and_fit()
    contenders = [
        Contender("regraft, cached", regraft_cached),
        Contender("regraft, features and epoch", regraft_whole),
        Contender("regraft, uncached", regraft_uncached),
        Contender("bare eager loop", bare_eager, GUIDES["eager"]),
        Contender("DataLoader loop", torch_dataloader, GUIDES["loader"]),
        Contender("TensorFlow graph", graph, GUIDES["tensorflow"]),
        Contender("Keras fit", fit, GUIDES["keras"]),
        Contender("Keras predict + fit", predict_and_fit, GUIDES["keras"]),
        Contender("Lightning", lightning_trainer(), GUIDES["lightning"]),
        Contender("NumPy by hand", numpy_by_hand),
    ]  # fmt: skip
    goals = [
        Goal("own uncached epoch ≥ 3.8×", "regraft, uncached", "regraft, cached", least=3.8),
        Goal("TensorFlow's cached epoch ≥ 1.2×", "TensorFlow graph", "regraft, cached", least=1.2),
        Goal("bare eager loop ≥ 1.3×", "bare eager loop", "regraft, cached", least=1.3),
        Goal("DataLoader over the cached tensors ≥ 3.5×", "DataLoader loop", "regraft, cached", least=3.5),
        Goal("Keras 3 fit ≥ 5×", "Keras fit", "regraft, cached", least=5),
        Goal(
            "Keras 3 predict + fit ≥ 5×", "Keras predict + fit", "regraft, features and epoch", least=5,
            limit="the products of the frozen layers (784-300-50, 55,000 rows) are the same arithmetic for both, and "
            "regraft also hashes each example. This counts in the first epoch only; each further epoch is that of the "
            "row above.",
        ),
        Goal("Lightning ≥ 5×", "Lightning", "regraft, cached", least=5),
        Goal("regraft within 1.6× of NumPy by hand", "regraft, cached", "NumPy by hand", most=1.6),
    ]  # fmt: skip
    title = "W1: the chapter, one cached epoch (275 steps of batch 200), one thread"
    report([take_turns(title, "s", contenders, rounds=7, goals=goals)])


if __name__ == "__main__":
    main()
