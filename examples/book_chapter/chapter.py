"""The chapter, step for step, from TensorFlow's own initial arrays and with its own batches; compares the outcome.

    python examples/book_chapter/chapter.py [SHARED]

SHARED is the folder with the reference material, by default beside the project.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from network import ChapterNet

import regraft
from regraft.datasets.array_file import open_idx
from regraft.inputs import InputContract

SHARED = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[3] / "shared"
MNIST = SHARED / "checkpoints" / "mnist"


def book_order():
    """The book's batches: one permutation for each epoch from one seed, cut into 275 parts."""
    random = np.random.RandomState(42)
    permutations = [random.permutation(55000) for _ in range(20)]
    return lambda epoch: np.array_split(permutations[epoch], 275)


def run(way, images, labels):
    """One of TensorFlow's recorded ways, "full", "frozen" or "cached": the trained model and its history."""
    model = ChapterNet()
    checkpoint = regraft.open_checkpoint(MNIST / "tf1_v2_mnist10_sgd")
    plan = regraft.plan_reuse(checkpoint, model, reuse="hidden[123]")
    regraft.apply_plan(plan, checkpoint, model)
    # hidden4 and outputs are new; TensorFlow's own draws make the two runs comparable.
    drawn = regraft.open_checkpoint(MNIST / f"side_by_side/chapter_{way}_initial.npz")
    regraft.apply_plan(regraft.plan_reuse(drawn, model, reuse="hidden4|outputs", layout="tensorflow"), drawn, model)

    train_set, validation = (images[5000:], labels[5000:]), (images[:5000], labels[:5000])
    learner = model
    if way != "full":
        regraft.freeze(model, "hidden[12]")
    if way == "cached":
        trunk, learner = regraft.split(model, images[:2])
        train_set = regraft.cache_features(trunk, train_set, batch_size=200)
        validation = regraft.cache_features(trunk, validation, batch_size=200)
    history = regraft.train(
        learner, train_set, validation=validation, optimizer="sgd", lr=0.01, epochs=20, order=book_order()
    )
    return model, history


def largest_difference(model, way):
    """The largest difference of any weight from TensorFlow's final arrays."""
    final = np.load(MNIST / f"side_by_side/chapter_{way}_final.npz")
    return max(
        np.abs(dict(model.named_parameters())[f"{layer}.{ours}"].detach().numpy().T - final[f"{layer}/{theirs}"]).max()
        for layer in ("hidden1", "hidden2", "hidden3", "hidden4", "outputs")
        for ours, theirs in (("weight", "kernel"), ("bias", "bias"))
    )


def main():
    """Run the three ways and print them beside TensorFlow's."""
    contract = InputContract((28, 28), channels=1, flatten=True)
    data = open_idx(SHARED / "data/mnist/train-images-idx3-ubyte.gz", contract)
    test = open_idx(SHARED / "data/mnist/t10k-images-idx3-ubyte.gz", contract)
    models = {}
    for way, book, tensorflow in (("full", 0.9678, 0.9652), ("frozen", 0.9602, 0.9584), ("cached", 0.958, 0.9584)):
        models[way], history = run(way, data.inputs, data.labels)
        score = regraft.evaluate(models[way], test)
        print(
            f"{way:<7} validation {history.validation_accuracy[-1]:.4f} (book {book:.4f}, TensorFlow {tensorflow:.4f})"
            f"   test {score.accuracy:.4f}   epoch {np.median(history.seconds):.3f} s"
            f"   largest weight difference from TensorFlow {largest_difference(models[way], way):.1e}"
        )
    pairs = zip(models["frozen"].parameters(), models["cached"].parameters(), strict=True)
    print("cached = uncached to the last bit:", all(torch.equal(first, second) for first, second in pairs))


if __name__ == "__main__":
    main()
