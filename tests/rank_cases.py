"""What two processes train together, and one alone: run by test_ranks.py in both.

python rank_cases.py RANK COUNT FOLDER
"""

import os
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Dataset

import vision_stub  # noqa: F401  # before torchmetrics imports torchvision
from regraft.caching import cache_features
from regraft.errors import TrainError
from regraft.freezing import freeze
from regraft.learning.checkpoints import Checkpoints
from regraft.learning.request import WeightedLoss
from regraft.learning.solvers import Exact, Steps
from regraft.splitting import split
from regraft.stores.folder import FolderStore
from regraft.training import train

COUNT = 70  # in batches of 16: the last one has 6


def data(count=COUNT, *, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return 2 * torch.eye(classes, 4)[labels] + torch.randn(count, 4, generator=generator), labels


def model(*middle, seed=0):
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), *(layer() for layer in middle), nn.Linear(8, 3))
    freeze(made, "0")
    return made


def trained(made, examples, solver, **options):
    """Weights and numbers of a training of the head."""
    trunk, head = split(made, data(4)[0])
    store = options.pop("store", None)
    features, validation = cache_features(trunk, examples, store), cache_features(trunk, data(40, seed=1), store)
    history = train(head, features, validation=validation, solver=solver, seed=3, **options)
    return result_of(made, history)


def result_of(made, history):
    numbers = [*history.train_loss, *history.validation_loss, *history.validation_accuracy]
    numbers += [value for values in history.validation_metrics.values() for value in values]
    return {
        "weights": torch.cat([parameter.detach().reshape(-1) for parameter in made.parameters()]),
        "numbers": torch.tensor([number for number in numbers if number is not None], dtype=torch.float64),
        "text": f"{history.stopped_because} {history.lr} {history.weight_decay} {history.best_epoch}",
        "notes": history.notes,
    }


class OneByOne(Dataset):
    """Inputs of a whole model, whose labels are not known before they are fetched; some positions have none."""

    def __init__(self, count=9):
        self.inputs, labels = data(count)
        self.targets = torch.stack([labels, labels.roll(1)], 1)
        self.targets[::4, 1] = -100

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


class TwoPositions(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        return self.linear(x).view(-1, 2, 3)


def steps(folder, share):
    """Uneven batches, clipped gradients, a rate that changes, averages, metrics of torchmetrics."""
    metrics = ["accuracy", "f1", "auroc"]
    solver = Steps(epochs=3, batch_size=16, clip_norm=1.0, lr_schedule="cosine", averaging=0.9)
    return trained(model(lambda: nn.Linear(8, 8), nn.ReLU), data(), solver, metrics=metrics)


def candidates(folder, share):
    """The best of several rates, by batches that are put together."""
    solver = Steps(lr=[0.001, 0.05], optimizer="sgd", epochs=4, batch_size=8, accumulate=2, patience=1)
    return trained(model(lambda: nn.Linear(8, 8), nn.ReLU), data(), solver)


def streamed(folder, share):
    """Rows that are read from a store, by both processes: each reads its own blocks."""
    return trained(
        model(), data(300), Steps(epochs=2, batch_size=32), store=FolderStore(folder / "store", memory_bytes=0)
    )


def exact(folder, share):
    """The optimum, by sums over all processes; the strength is chosen by the validation."""
    return trained(model(), data(), Exact())


def whole_model(folder, share):
    """Positions that are ignored, weights of classes, and batches with fewer examples than processes."""
    made = TwoPositions()
    order = [[0, 1, 2, 3, 4], [5], [6, 7, 8]]
    solver = Steps(order=lambda epoch: [torch.tensor(batch) for batch in order], epochs=3, optimizer="sgd", lr=0.1)
    loss = WeightedLoss(class_weights=[1.0, 2.0, 0.5])
    return result_of(made, train(made, OneByOne(), task="token-classification", loss=loss, solver=solver))


def resumed(folder, share):
    """Dropout: what is interrupted and goes on ends as what was never interrupted."""
    results = []
    for name, epochs in (("whole", (4,)), ("parts", (2, 4))):
        for number in epochs:
            keep = Checkpoints(folder / f"{name}-{share[1]}", resume=True, least_s=0.0)
            made = model(nn.Dropout)
            results.append(trained(made, data(), Steps(epochs=number, batch_size=16, checkpoints=keep)))
    return results[0] | {"again": results[2]["weights"]}


def refusals(folder, share):
    """The texts of what several processes cannot train, each process the same text."""
    rank, count = share

    def norm():
        return trained(model(lambda: nn.BatchNorm1d(8)), data(), Steps(epochs=1))

    def own_norm():
        return trained(model(Normalised), data(), Steps(epochs=1))

    def contrast():
        return trained(model(), data(), Steps(epochs=1), task="classification", loss=against_the_batch)

    def weights():
        return trained(model(seed=rank), data(), Steps(epochs=1))

    def labels():
        x, y = data()
        return trained(model(), (x[rank::count], y[rank::count]), Steps(epochs=1))

    def inputs():
        return trained(model(), (data()[0] + rank, data()[1]), Steps(epochs=1))

    def options():
        return trained(model(), data(), Steps(epochs=1, lr=0.1 + rank))

    texts = {}
    for case in (norm, own_norm, contrast, weights, labels, inputs, options):
        try:
            case()
            texts[case.__name__] = "trained"
        except TrainError as error:
            texts[case.__name__] = str(error)
    alone = trained(model(lambda: nn.BatchNorm1d(8)), data(), Steps(epochs=1, batch_size=16, group="alone"))
    return {"texts": texts, "weights": alone["weights"], "numbers": alone["numbers"], "text": alone["text"]}


class Normalised(nn.Module):
    """Normalises by the batch, and is no BatchNorm."""

    def forward(self, x):
        return x - x.mean(0)


def against_the_batch(outputs, labels):
    """A loss that compares each example with the others of its batch."""
    return nn.functional.cross_entropy(outputs @ outputs.t(), torch.arange(len(outputs)))


CASES = (steps, candidates, streamed, exact, whole_model, resumed, refusals)


def main(rank, count, folder):
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ["GLOO_SOCKET_IFNAME"] = loopback
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=count)
    results = {case.__name__: case(folder, (rank, count)) for case in CASES}
    torch.save(results, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
