"""Compare a training step of the head with that of a hand-written module of the same layers; writes docs/head-step.md.

    python benchmarks/head_step.py

With `--json`, as bench.py calls it (W5), it prints the samples and does not write the page. All variants run in one
process, in turns, on one thread, on the same features. The table has medians and the interquartile range.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch import Tensor, nn

import regraft

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Goal, Table, asked_rounds, report

import vision_stub  # noqa: F401  # before torchvision

PAGE = Path(__file__).resolve().parents[1] / "docs" / "head-step.md"
LIMIT = (
    "the head runs its recorded operators one by one from Python, at a constant cost for each; this matters for a "
    "small head only. `regraft.train` runs a traced step instead (W1)."
)
ROUNDS = asked_rounds() or 9


def resnet() -> tuple[nn.Module, Tensor, nn.Module, str, int, float]:
    """resnet18 with layer4 and fc trainable, 64 pixels, batch 32."""
    import torchvision

    model = torchvision.models.resnet18(weights=None, num_classes=10)
    regraft.freeze(model, trainable="layer4|fc")
    by_hand = nn.Sequential(model.layer4, model.avgpool, nn.Flatten(1), model.fc)
    return model, torch.randn(32, 3, 64, 64), by_hand, "layer3", 2, 1.15


def chapter() -> tuple[nn.Module, Tensor, nn.Module, str, int, float]:
    """The chapter's network: five hidden layers, the first three frozen, batch 200."""
    sizes = [784, 300, 50, 50, 50, 20]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(20, 10))
    regraft.freeze(model, upto="5")
    return model, torch.randn(200, 784), nn.Sequential(*list(model)[6:]), "5", 40, 1.3


def step(forward: Callable[[], Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, labels: Tensor) -> None:
    """One training step."""
    loss = nn.functional.cross_entropy(forward(), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def seconds_of(run: Callable[[], None], repeats: int) -> float:
    """Seconds for one run, the mean of a few."""
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - started) / repeats


def compare(make: Callable) -> tuple[dict[str, list[float]], float, float]:
    """Milliseconds by contender, the highest ratio allowed, and the seconds of the split."""
    torch.manual_seed(0)
    model, example, by_hand, leaf, repeats, limit = make()
    started = time.perf_counter()
    trunk, head = regraft.split(model, example[:2], at=leaf)  # two rows are enough, as in `regraft reuse`
    split_s = time.perf_counter() - started
    model.train()
    labels = torch.randint(0, 10, (len(example),))
    features = {name: rows.clone() for name, rows in trunk(example).items()}
    (rows,) = features.values()
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3)
    runs = {
        "head": lambda: step(lambda: head(features), model, optimizer, labels),
        "hand": lambda: step(lambda: by_hand(rows), model, optimizer, labels),
        "model": lambda: step(lambda: model(example), model, optimizer, labels),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):  # in turns, so that a busy machine slows all of them
        for name, run in runs.items():
            times[name].append(1e3 * seconds_of(run, repeats))
    return times, limit, split_s


def row(make: Callable) -> str:
    """A row of the page."""
    times, limit, split_s = compare(make)
    ratios = [one / other for one, other in zip(times["head"], times["hand"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = [f"{statistics.median(times[name]):.2f}" for name in ("head", "hand", "model")]
    ratio = f"{statistics.median(ratios):.2f} ({low:.2f}–{high:.2f})"
    cells = [make.__name__, *medians, ratio, f"{limit}", f"{split_s:.1f}"]
    return f"| {' | '.join(cells)} |"


def table(make: Callable) -> Table:
    """The same for bench.py."""
    times, limit, split_s = compare(make)
    note = f"*hand*: an `nn.Sequential` of the same trainable layers; *model*: unsplit. The split took {split_s:.1f} s."
    goals = [Goal(f"{make.__name__}, at most {limit}×", "head", "hand", most=limit, limit=LIMIT)]
    return Table(f"W5: a step of the head, {make.__name__}", "ms", times, goals, notes=[note])


def main() -> None:
    """Write the page."""
    torch.set_num_threads(1)
    if "--json" in sys.argv:
        report([table(make) for make in (resnet, chapter)])
        return
    lines = [
        "# Cost of a head step",
        "",
        f"Measured {date.today()} with torch {torch.__version__} on one thread by `python benchmarks/head_step.py`.",
        f"Milliseconds per step, medians of {ROUNDS} rounds in turns; the ratio with its interquartile range.",
        "*by hand*: an `nn.Sequential` of the same layers. *model*: the unsplit model. *goal*: maximum ratio.",
        "",
        "| network | head | by hand | model | head / by hand | goal | split, s |",
        "|---|---|---|---|---|---|---|",
        *[row(make) for make in (resnet, chapter)],
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
