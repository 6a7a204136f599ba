"""How many layers to reuse: the truth by an exhaustive sweep beside what `advise` sees; depth_page.py writes the page.

    python benchmarks/depth.py

For each source, target, number of labels and draw, a linear head is fitted at the input, at every cut and on all cuts
together. Its accuracy on test examples is the truth; what `advise` sees of the same training examples is the evidence.
Rows are appended to build/depth/frozen.jsonl one by one, so that an interrupted sweep goes on.
"""

import json
import os
import time
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from depth_data import Task, task
from depth_sources import BUILD, SOURCES, Source, network_of
from torch import Tensor, nn

from regraft.advising import joined
from regraft.depths.input_rows import input_rows
from regraft.depths.pooled_layers import PooledLayer, PooledLayers
from regraft.depths.ridge import STRENGTHS, predict_left_out, single_blocks
from regraft.depths.targets import targets_of
from regraft.layer_heads import points_in

PER_CLASS = (5, 20, 60)
DRAWS = 3
ROWS = BUILD / "frozen.jsonl"
STAGES = r"stages\.\d+"


def cuts_of(source: Source) -> str | None:
    """The stages of networks of our own; all cuts that are found in others."""
    return None if source.name == "mobilenet" else STAGES


def features_of(source: Source, network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Name → rows (count, columns) float64: the input, every cut, all cuts together are joined later."""
    points = points_in(network, source.prepare(images[:2]), cuts_of(source))
    pooled = PooledLayers(network, [PooledLayer.of(point) for point in points])
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for batch in images.split(100):
            rows = pooled.each(source.prepare(batch))
            parts.setdefault("input", []).append(input_rows(batch))
            for point in points:
                parts.setdefault(point.layer, []).append(rows[point.place])
    return {name: torch.cat(rows).double() for name, rows in parts.items()}


def fitted(features: Tensor, targets: Tensor, strength: float, new: Tensor) -> Tensor:
    """The predictions of a ridge of this strength for new features."""
    mean, centre = targets.mean(0), features.mean(0)
    centred, count = features - centre, len(features)
    penalty = strength * float(centred.square().sum()) / count * count + 1e-12
    if features.shape[1] < count:
        gram = centred.T @ centred + penalty * torch.eye(features.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, centred.T @ (targets - mean))
    else:
        gram = centred @ centred.T + penalty * torch.eye(count, dtype=torch.float64)
        weights = centred.T @ torch.linalg.solve(gram, targets - mean)
    return mean + (new - centre) @ weights


def cell(source: Source, network: nn.Module, data: Task, per_class: int) -> Iterator[dict]:
    """One row for each draw and each candidate."""
    train, tests = CACHE[source.name, data.name]
    for draw in range(DRAWS):
        chosen = data.draw(per_class, draw)
        labels = data.labels[chosen]
        targets = targets_of(labels)
        own = {name: rows[chosen] for name, rows in train.items()}
        new = dict(tests)
        own["all"], new["all"] = together(own, tests)
        for name, rows in own.items():
            began = time.process_time()
            found = predict_left_out(rows, targets.values, targets.blocks)
            seconds = time.process_time() - began
            alone = predict_left_out(rows, targets.values, single_blocks(len(rows)))
            answers = fitted(rows, targets.values, STRENGTHS[found.strength], new[name]).argmax(1)
            yield {
                "source": source.name, "family": source.family, "control": source.is_control, "target": data.name,
                "n": per_class, "draw": draw, "name": name, "columns": rows.shape[1], "seconds": round(seconds, 4),
                "truth": float((answers == data.test_labels).double().mean()),
                "score": float(targets.scores(found).mean()), "error": found.squared_error / targets.variance,
                "alone": float(targets.scores(alone).mean()), "alone_error": alone.squared_error / targets.variance,
                "right": "".join(str(int(value)) for value in targets.scores(found)),
            }  # fmt: skip


def together(own: dict[str, Tensor], tests: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """All cuts joined, as `advise` joins them, and the tests moved and scaled alike."""
    cuts = [name for name in own if name != "input"]
    train = joined([own[name] for name in cuts])
    scaled = []
    for name in cuts:
        centre = own[name].mean(0)
        energy = (own[name] - centre).square().sum(1).mean().sqrt().clamp(min=1e-9)
        scaled.append((tests[name] - centre) / energy)
    return train, torch.cat(scaled, 1)


CACHE: dict[tuple[str, str], tuple[dict[str, Tensor], dict[str, Tensor]]] = {}


def sweep() -> None:
    """Measure every cell that has no rows yet."""
    BUILD.mkdir(parents=True, exist_ok=True)
    known = {(row["source"], row["target"], row["n"]) for row in read_rows()}
    with ROWS.open("a") as out:
        for source in SOURCES:
            wanted = [
                (target, n) for target in source.targets for n in PER_CLASS if (source.name, target, n) not in known
            ]
            if not wanted:
                continue
            network = network_of(source)
            for target in source.targets:
                sizes = [n for name, n in wanted if name == target]
                if sizes:
                    measure(source, network, task(target, source.view), sizes, out)


def measure(source: Source, network: nn.Module, data: Task, sizes: list[int], out) -> None:
    """Append the rows of one source and target."""
    began = time.perf_counter()
    used = torch.unique(torch.cat([data.draw(max(PER_CLASS), draw) for draw in range(DRAWS)]))
    rows = features_of(source, network, data.images[used])
    train = {name: torch.zeros(len(data.labels), values.shape[1], dtype=torch.float64) for name, values in rows.items()}
    for name, values in rows.items():
        train[name][used] = values
    CACHE.clear()
    CACHE[source.name, data.name] = train, features_of(source, network, data.test_images)
    for per_class in sizes:
        for row in cell(source, network, data, per_class):
            out.write(json.dumps(row) + "\n")
    out.flush()
    print(f"{source.name} → {data.name}: {time.perf_counter() - began:.0f} s", flush=True)


def read_rows() -> list[dict]:
    """All rows so far."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


if __name__ == "__main__":
    torch.set_num_threads(1)
    sweep()
