"""Split every model of the zoo at four depths and compare it with the unsplit model; writes docs/coverage.md.

    python benchmarks/zoo.py                     every cut without a result, then the page
    python benchmarks/zoo.py --only 'timm:.*'    some models
    python benchmarks/zoo.py --fresh             discard earlier results

A few models share a process, to bound memory. Each result is a line of a file, so an interrupted sweep continues where
it stopped. The comparison is independent of the proof in `split`: other examples and another batch size, in training
(with dropout) and in evaluation, with features as a cache returns them.
"""

import argparse
import copy
import json
import os
import random
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zoo_models
from torch import Tensor, nn

import regraft
from regraft.errors import RegraftError, SplitError
from regraft.tensors.trees import tensors_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "build" / "zoo.jsonl", ROOT / "docs" / "coverage.md"
DEPTHS = {"25 %": 0.25, "60 %": 0.6, "90 %": 0.9, "all but the last": 1.0}
CHUNK = 8
EXPLAINED = """Each model is split at four depths: the share of its layers with
parameters that is frozen. *equal*: outputs, gradients and buffers of `head(trunk(x))` equal those of the unsplit model
bit for bit, in a training step and in evaluation, on other examples than `split` saw and (in training, with dropout) in
another batch size, with features as a cache returns them. *refused*: `split` raises an error that names the layer and
the reason. *saved*: share of the forward's work that the cache saves; then the number of tensors of the cut and their
size per example. A star: the model mixes its examples, so the features belong to a whole batch and are not cached by
example; a batch that such a trunk refuses (more images in a list, other experts) was split again.
A dash: not measured in this run."""
EXAMPLE_ROWS, OTHER_ROWS = 2, 4  # split itself tries 3


def freeze_share(model: nn.Module, share: float) -> int:
    """Freeze the first layers that own parameters, a share of them and never the last; gives how many."""
    owners = [name for name, module in model.named_modules() if module._parameters]
    count = min(len(owners) - 1, max(1, round(share * len(owners))))
    own = [name for name, _ in model.named_parameters(recurse=False)]  # the model's own: a class token, positions
    regraft.freeze(model, [re.escape(name) for owner in owners[:count] for name in ([owner] if owner else own)])
    return count


def seed_everything(seed: int) -> None:
    """Seed the generators of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def step_of(model: nn.Module, forward: Callable[[], Any]) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of one training step."""
    seed_everything(7)
    model.zero_grad(set_to_none=True)
    outputs = tensors_of(forward())
    loss = sum((torch.sin(out.double()) * (i + 1)).sum() for i, out in enumerate(outputs) if out.requires_grad)
    if isinstance(loss, Tensor):
        loss.backward()
    result = {f"output {index}": out.detach() for index, out in enumerate(outputs)}
    result |= {f"gradient {name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return result | {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}


def differences(model: nn.Module, trunk: Any, head: Any, args: tuple, kwargs: dict) -> list[str]:
    """The results that differ between a step of trunk and head and a step of the unsplit model."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    expected = step_of(model, lambda: model(*copy.deepcopy(args), **copy.deepcopy(kwargs)))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    seed_everything(99)
    features = {name: stored(rows) for name, rows in trunk(*copy.deepcopy(args), **copy.deepcopy(kwargs)).items()}
    got = step_of(model, lambda: head(features))
    names = sorted(expected.keys() | got.keys())
    return [name for name in names if name not in got or name not in expected or not same(expected[name], got[name])]


def differences_on(model: nn.Module, trunk: Any, head: Any, args: tuple, kwargs: dict) -> list[str]:
    """The differences on a batch. A batch that a trunk of whole batches refuses is split again, as its user has to."""
    try:
        return differences(model, trunk, head, args, kwargs)
    except SplitError:
        if trunk.cut.by_row:
            raise
        return differences(model, *regraft.split(model, *args, **kwargs), args, kwargs)


def stored(rows: Tensor) -> Tensor:
    """The rows as a cache returns them: contiguous, with their own memory."""
    return rows.detach().clone(memory_format=torch.contiguous_format)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether the values are equal; a NaN equals a NaN."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


def judge(model: nn.Module, inputs: zoo_models.Inputs, share: float) -> dict[str, Any]:
    """The result for one model at one depth."""
    frozen = freeze_share(model, share)
    args, kwargs = inputs(EXAMPLE_ROWS, 1)
    model.train()
    seconds = time.perf_counter()
    try:
        trunk, head = regraft.split(model, *args, **kwargs)
    except RegraftError as error:
        return {"verdict": "refused", "why": f"{type(error).__name__}: {error}", "frozen": frozen}
    seconds = time.perf_counter() - seconds
    result = {"frozen": frozen, "leaves": len(trunk.cut.leaves), "bytes": trunk.cut.bytes_per_example,
              "saved": round(trunk.cut.work_saved, 3), "split_s": round(seconds, 2),
              "by_row": getattr(trunk.cut, "by_row", True)}  # fmt: skip
    wrong = []
    for is_training, rows in ((True, OTHER_ROWS), (False, EXAMPLE_ROWS)):
        model.train(is_training)
        mode = f"{'training' if is_training else 'evaluation'}, {rows} rows"
        try:
            found = differences_on(model, trunk, head, *inputs(rows, rows))
        except RegraftError as error:
            return result | {"verdict": "refused", "why": f"{mode}: {type(error).__name__}: {error}"}
        wrong += [f"{mode}: {', '.join(found[:4])} ({len(found)})"] if found else []
    return result | ({"verdict": "wrong", "why": "; ".join(wrong)} if wrong else {"verdict": "equal", "why": ""})


def run_model(name: str, depths: Iterable[str]) -> None:
    """Test a model and add a line for each depth."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, inputs = zoo_models.build(name)
    for depth in depths:
        started = time.perf_counter()
        seed_everything(0)
        try:
            result = judge(copy.deepcopy(model), inputs, DEPTHS[depth])
        except Exception as error:
            result = {"verdict": "failed", "why": f"{type(error).__name__}: {error}"}
        add(name, depth, result | {"seconds": round(time.perf_counter() - started, 1)})


def add(name: str, depth: str, result: dict[str, Any]) -> None:
    """Append a result to the file."""
    with RESULTS.open("a") as file:
        file.write(json.dumps(result | {"model": name, "depth": depth, "code": code()}) + "\n")


def code() -> str:
    """The measured commit."""
    command = ["git", "describe", "--always"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def results() -> dict[tuple[str, str], dict[str, Any]]:
    """(model, depth) → newest result."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {(line["model"], line["depth"]): line for line in map(json.loads, lines)}


def missing(names: list[str], depths: list[str]) -> list[tuple[str, str]]:
    """The pairs (model, depth) without a result."""
    done = results()
    return [(name, depth) for name in names for depth in depths if (name, depth) not in done]


def sweep(names: list[str], depths: list[str]) -> None:
    """Test every pair without a result, a chunk of models per process; a process that dies fails its current cut."""
    todo = list(dict.fromkeys(name for name, _ in missing(names, depths)))
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        while left := missing(chunk, depths):
            print(f"{start}/{len(todo)} {' '.join(dict.fromkeys(name for name, _ in left))}", flush=True)
            command = [sys.executable, __file__, "--depths", *depths, "--chunk", *chunk]
            ended = subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
            if ended.returncode and (left := missing(chunk, depths)):
                name, depth = left[0]
                add(name, depth, {"verdict": "failed", "why": f"the process ended with {ended.returncode}"})


def page(found: dict[tuple[str, str], dict[str, Any]], names: list[str]) -> str:
    """The table of all results, by library."""
    counts = Counter(line["verdict"] for line in found.values())
    total = sum(counts.values())
    made = f"Measured {date.today()} with torch {torch.__version__} by `make zoo`: "
    made += f"{len({model for model, _ in found})} of {len(names)} models, {total} of {len(names) * len(DEPTHS)} cuts, "
    commits = Counter(line.get("code", "unknown") for line in found.values())
    made += f"at commit {', '.join(f'{commit} ({count})' for commit, count in commits.items())}.\n"
    share = f"{counts['equal'] / max(total, 1):.1%}"
    rest = f"{counts['refused']} refused, {counts['wrong']} wrong, {counts['failed']} failed"
    summary = f"**{total} cuts: {counts['equal']} equal ({share}), {rest}.**"
    lines = ["# Coverage: which models split", "", made + EXPLAINED, "", summary]
    for library in dict.fromkeys(name.partition(":")[0] for name in names):
        lines += ["", f"## {library}", "", f"| model | {' | '.join(DEPTHS)} |", f"|---|{'---|' * len(DEPTHS)}"]
        for name in names:
            if name.startswith(library + ":"):
                cells = [cell(found.get((name, depth))) for depth in DEPTHS]
                lines.append(f"| {name.partition(':')[2]} | {' | '.join(cells)} |")
    lines += ["", "## Not equal", ""]
    for (model, depth), line in found.items():
        if line["verdict"] != "equal":
            why = " ".join(line["why"].split())[:300]
            lines.append(f"* `{model}`, {depth}, {line['verdict']}: {why}")
    return "\n".join(lines) + "\n"


def cell(line: dict[str, Any] | None) -> str:
    """The verdict, the work saved, the number of tensors of the cut and their size per example."""
    if line is None:
        return "–"
    if line["verdict"] != "equal":
        return f"**{line['verdict']}**"
    star = "" if line["by_row"] else "\\*"
    return f"equal{star}, {line['saved']:.0%} saved, {line['leaves']} × {line['bytes'] / 1024:,.0f} KiB"


def main() -> None:
    """Run the sweep that the arguments describe, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".*", help="a regular expression on library:model")
    parser.add_argument("--depths", nargs="+", default=list(DEPTHS), choices=list(DEPTHS))
    parser.add_argument("--fresh", action="store_true", help="discard earlier results")
    parser.add_argument("--chunk", nargs="+", help="test these models in this process")
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    if options.chunk:
        for name in options.chunk:
            run_model(name, [depth for _, depth in missing([name], options.depths)])
        return
    if options.fresh:
        RESULTS.unlink(missing_ok=True)
    names = [name for name in zoo_models.names() if re.fullmatch(options.only, name)]
    sweep(names, options.depths)
    found = {key: line for key, line in results().items() if key[0] in set(zoo_models.names())}
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(found, zoo_models.names()))
    print(Counter(line["verdict"] for line in found.values()))


if __name__ == "__main__":
    main()
