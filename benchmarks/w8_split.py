"""W8: how many forwards of the example `split` takes, for resnet18 at 224 pixels with two rows.

    python benchmarks/w8_split.py

The time is that of the thread, so that other work on the machine counts little. The unit is a forward of the example
without gradients, measured in the same round. What a split proves with these runs: docs/why/splitting.md.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import regraft

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Contender, Goal, report, take_turns

import vision_stub  # noqa: F401  # before torchvision

TRAINABLE = {"layer4 and fc": "layer4|fc", "fc": "fc"}
FORWARDS = 5  # their median is the unit of a round


def processor_s(run: Callable[[], object]) -> float:
    """Processor seconds of this thread for one run."""
    started = time.thread_time()
    run()
    return time.thread_time() - started


def in_forwards(trainable: str) -> float:
    """The time of a split, in forwards of the example."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model, example = resnet18(), torch.randn(2, 3, 224, 224)
    regraft.freeze(model, trainable=trainable)
    model(example)
    with torch.no_grad():
        forward = statistics.median(processor_s(lambda: model(example)) for _ in range(FORWARDS))
    return processor_s(lambda: regraft.split(model, example)) / forward


def main() -> None:
    torch.set_num_threads(1)
    splits = [
        Contender(f"split, {name} train", lambda trainable=trainable: in_forwards(trainable))
        for name, trainable in TRAINABLE.items()
    ]
    goals = [Goal("≤ 12 forwards of the example", split.name, most=12) for split in splits]
    notes = [
        "Six forwards of the frozen part (7.5 in rows of the example), two backward passes, four runs of the head."
    ]
    report([take_turns("W8: split of resnet18", "forwards of the example", splits, rounds=5, goals=goals, notes=notes)])


if __name__ == "__main__":
    main()
