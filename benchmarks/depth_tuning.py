"""Fine-tuning beside freezing: restore so many stages, freeze so many, train the rest; rows for docs/depth.md.

    python benchmarks/depth_tuning.py

Arms of a cell (source, target, labels of each class, draw), all trained by the same number of steps: from scratch;
restore half, all, or up to the stage where the probe's squared error is lowest, and train everything; restore all and
freeze half; restore up to that stage and freeze it, fresh stages above. Frozen stages with an exact head are the rows
of depth.py. Rows are appended to build/depth/tuned.jsonl, so that an interrupted run goes on.
"""

import copy
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from depth import BUILD, read_rows
from depth_data import Task, task
from depth_sources import NETWORKS, SOURCES, Source, Staged, _book_network, network_of
from torch import nn

ROWS = BUILD / "tuned.jsonl"
STEPS = {"mlp": 150, "convolution": 60, "transformer": 60}
DRAWS = {"mlp": 3, "convolution": 1, "transformer": 1}
TARGETS = ("mnist59", "mnist59_inverted", "mnist04_up", "digits", "vehicles")
TESTS = 600


def cells() -> list[tuple[Source, str, int]]:
    """What is measured, the families in turns so that an early end leaves some of each."""
    own = [source for source in SOURCES if source.view == "grey" and not source.is_control]
    by_family: dict[str, list[tuple[Source, str, int]]] = {}
    for per_class in (20, 5):
        for target in TARGETS:
            for source in own:
                if target in source.targets:
                    by_family.setdefault(source.family, []).append((source, target, per_class))
    turns = max(map(len, by_family.values()))
    return [some[turn] for turn in range(turns) for some in by_family.values() if turn < len(some)]


def fresh_twin(source: Source, network: Staged, classes: int, seed: int) -> Staged:
    """A network of the same kind with its own initial weights."""
    torch.manual_seed(seed)
    kind, _, taught = source.name.partition("_")
    twin = _book_network(taught) if kind == "tf1" else NETWORKS[kind](classes)
    for module in twin.modules():
        if kind == "tf1" and isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    twin.fc = nn.Linear(network.fc.in_features, classes)
    return twin


def trained(
    source: Source, network: Staged, data: Task, chosen: torch.Tensor, restored: int, frozen: int, seed: int
) -> float:
    """Test accuracy after training with so many stages restored and so many of them frozen."""
    model = fresh_twin(source, network, data.classes, seed)
    for number in range(restored):
        model.stages[number].load_state_dict(network.stages[number].state_dict())
    trunk, rest = model.stages[:frozen].eval(), nn.Sequential(*model.stages[frozen:])
    steps = STEPS[source.family]
    optimizer = torch.optim.AdamW([*rest.parameters(), *model.fc.parameters()], 1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    with torch.no_grad():
        inputs = trunk(data.images[chosen])  # what is frozen runs once
        tests = data.test_images[:TESTS]
    labels, generator = data.labels[chosen], torch.Generator().manual_seed(seed)
    head = copy.copy(model)
    head.stages = rest
    head.train()
    for _ in range(steps):
        batch = torch.randint(len(inputs), (min(32, len(inputs)),), generator=generator)
        loss = nn.functional.cross_entropy(head(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    head.eval()
    with torch.no_grad():
        answers = torch.cat([head(trunk(part)).argmax(1) for part in tests.split(200)])
    return float((answers == data.test_labels[:TESTS]).double().mean())


def arms_of(stages: int, peak: int) -> dict[str, tuple[int, int]]:
    """Name → (restored, frozen)."""
    half = (stages + 1) // 2
    return {
        "scratch": (0, 0), "restore half": (half, 0), "restore all": (stages, 0), "restore to peak": (peak, 0),
        "restore all, freeze half": (stages, half), "restore and freeze to peak": (peak, peak),
    }  # fmt: skip


def main(limit_s: float) -> None:
    """Measure what is missing, for so many seconds."""
    began = time.perf_counter()
    known = (
        {(row["source"], row["target"], row["n"]) for row in map(json.loads, ROWS.read_text().splitlines())}
        if ROWS.exists()
        else set()
    )
    probes: dict[tuple, dict[str, float]] = {}
    for row in read_rows():
        if row["name"].startswith("stages."):
            probes.setdefault((row["source"], row["target"], row["n"], row["draw"]), {})[row["name"]] = row["error"]
    networks: dict[str, nn.Module] = {}
    families = os.environ.get("FAMILIES", "mlp,convolution,transformer").split(",")
    for source, target, per_class in (cell for cell in cells() if cell[0].family in families):
        if (source.name, target, per_class) in known or time.perf_counter() - began > limit_s:
            continue
        if (source.name, target, per_class, 0) not in probes:
            continue
        network = networks.setdefault(source.name, network_of(source))
        assert isinstance(network, Staged)
        data, rows = task(target, source.view), []
        for draw in range(DRAWS[source.family]):
            errors = probes[source.name, target, per_class, draw]
            peak = 1 + int(min(errors, key=errors.__getitem__).partition(".")[2])
            measured: dict[tuple[int, int], float] = {}
            for name, (restored, frozen) in arms_of(len(network.stages), peak).items():
                start = time.process_time()
                if (restored, frozen) not in measured:
                    measured[restored, frozen] = trained(
                        source, network, data, data.draw(per_class, draw), restored, frozen, draw
                    )
                rows.append({
                    "source": source.name, "family": source.family, "target": target, "n": per_class, "draw": draw,
                    "arm": name, "restored": restored, "frozen": frozen, "truth": measured[restored, frozen],
                    "seconds": round(time.process_time() - start, 2),
                })  # fmt: skip
        with ROWS.open("a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        print(source.name, target, per_class, {row["arm"]: round(100 * row["truth"]) for row in rows[-6:]}, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(float(os.environ.get("SECONDS_LIMIT", "1800")))
