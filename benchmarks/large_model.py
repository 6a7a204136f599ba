"""Plan and apply a checkpoint of a billion parameters in shards; plan seven billion on meta tensors.

    python benchmarks/large_model.py [--folder FOLDER]

Writes docs/large-models.md. The checkpoint has random bfloat16 weights in safetensors shards of 1 GB. Each
measurement is a process of its own. Memory is what the process holds itself (RssAnon), sampled every 5 ms: the pages of
a mapped file are the system's and can be dropped at any time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import regraft

PAGE = Path(__file__).resolve().parents[1] / "docs" / "large-models.md"
SHARD_BYTES = 1 << 30  # transformers writes 5 GB shards, or larger ones
SIZES = {"1 B": (2048, 5632, 22, 32000), "7 B": (4096, 11008, 32, 32000)}  # width, inner width, layers, vocabulary


class Block(nn.Module):
    """The parameters of one decoder layer, as Llama names them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width)
        self.post_attention_layernorm = nn.RMSNorm(width)
        self.self_attn = nn.ModuleDict(
            {f"{name}_proj": nn.Linear(width, width, bias=False) for name in ("q", "k", "v", "o")}
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(width, inner, bias=False),
                "up_proj": nn.Linear(width, inner, bias=False),
                "down_proj": nn.Linear(inner, width, bias=False),
            }
        )


def decoder(size: str) -> nn.Module:
    """A decoder of this size on the meta device, in bfloat16."""
    width, inner, layers, vocabulary = SIZES[size]
    with torch.device("meta"):
        model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(vocabulary, width),
                "layers": nn.ModuleList(Block(width, inner) for _ in range(layers)),
                "norm": nn.RMSNorm(width),
                "lm_head": nn.Linear(width, vocabulary, bias=False),
            }
        )
    return model.to(torch.bfloat16)


def write_shards(folder: Path, size: str) -> None:
    """Random weights of the decoder, in shards with their index."""
    files: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    count = 0

    def finish() -> None:
        nonlocal count
        name = f"model-{count:05}.safetensors"
        save_file(shard, folder / name)
        files.update(dict.fromkeys(shard, name))
        shard.clear()
        count += 1

    for name, tensor in decoder(size).state_dict().items():
        shard[name] = torch.empty(tensor.shape, dtype=tensor.dtype).normal_(0, 0.02)
        if sum(rows.nbytes for rows in shard.values()) > SHARD_BYTES:
            finish()
    finish()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def held_bytes() -> int:
    """Bytes of memory that this process holds itself."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The largest number of bytes held in the block, in a list of one."""
    peak, ends = [held_bytes()], threading.Event()

    def sample() -> None:
        while not ends.wait(0.005):
            peak[0] = max(peak[0], held_bytes())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        ends.set()
        sampler.join()


def apply_all(folder: Path, size: str) -> dict[str, float]:
    """Plan and apply the checkpoint; seconds of processor time, and memory beyond the model's own."""
    model = decoder(size)
    before, own = held_bytes(), sum(parameter.nbytes for parameter in model.parameters())
    with peak_memory() as peak:
        started = time.process_time()
        checkpoint = regraft.open_checkpoint(folder)
        plan = regraft.plan_reuse(checkpoint, model)
        planned = time.process_time()
        regraft.apply_plan(plan, checkpoint, model)
        applied = time.process_time()
    state = model.state_dict()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as shard:
            assert all(torch.equal(shard.get_tensor(name), state[name]) for name in shard.keys()), file  # noqa: SIM118
    return {
        "arrays": len(plan.rows), "plan_s": planned - started, "apply_s": applied - planned,
        "model_gb": own / 1e9, "beyond_mb": (peak[0] - before - own) / 1e6,
    }  # fmt: skip


def plan_on_meta(folder: Path, size: str) -> dict[str, float]:
    """Plan a checkpoint of this size whose shards are sparse files: headers without values."""
    write_headers(folder, size)
    with peak_memory() as peak:
        started = time.process_time()
        checkpoint = regraft.open_checkpoint(folder)
        plan = regraft.plan_reuse(checkpoint, decoder(size))
        seconds = time.process_time() - started
    assert not plan.problems, plan
    return {"arrays": len(plan.rows), "plan_s": seconds, "peak_mb": peak[0] / 1e6}


def write_headers(folder: Path, size: str) -> None:
    """The checkpoint as one safetensors file of zeros that take no room on the disk."""
    header: dict[str, object] = {}
    end = 0
    for name, tensor in decoder(size).state_dict().items():
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def show(folder: Path, _: str) -> dict[str, float]:
    """Processor time of `regraft show`, as a whole process."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "regraft", "show", str(folder)], check=True, capture_output=True)
    after = os.times()
    return {"cpu_s": after.children_user + after.children_system - before.children_user - before.children_system}


MEASURED = {"apply": apply_all, "plan": plan_on_meta, "show": show}


def in_a_process(what: str, folder: Path, size: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--measure", what, "--size", size]
    values: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return values


def page(shown: dict[str, float], applied: dict[str, float], planned: dict[str, float]) -> str:
    """docs/large-models.md."""
    return "\n".join(
        [
            "# Large models",
            "",
            "Create a large model on the meta device, where it takes no memory. `apply_plan` gives memory to what the",
            "plan fills, and refuses to leave anything without values:",
            "",
            "    with torch.device('meta'):",
            "        model = Decoder()",
            "    plan = regraft.plan_reuse(checkpoint, model)",
            "    regraft.apply_plan(plan, checkpoint, model)",
            "",
            "A model that has memory already needs as much again while `apply_plan` runs: new values are kept apart",
            "until all are checked, so that a failure changes nothing.",
            "",
            f"Measured {date.today()} with torch {torch.__version__} by `python benchmarks/large_model.py`. Seconds",
            "are processor time. Memory is what the process holds itself; pages of mapped files are not counted.",
            "",
            "| work | goal | measured |",
            "|---|---|---|",
            f"| `regraft show` of 1.4 billion parameters in shards | instant | {shown['cpu_s']:.2f} s |",
            f"| plan of {applied['arrays']:.0f} arrays | | {applied['plan_s']:.2f} s |",
            f"| apply: memory beyond the model's {applied['model_gb']:.2f} GB | one shard, "
            f"{SHARD_BYTES / 1e6:.0f} MB | {applied['beyond_mb']:.0f} MB, {applied['apply_s']:.1f} s |",
            f"| plan of a decoder of 6.7 billion parameters on meta tensors | seconds | {planned['plan_s']:.2f} s, "
            f"{planned['peak_mb']:.0f} MB |",
            "",
            "All weights were compared with the shards, bit for bit.",
            "",
        ]
    )


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the checkpoint is written; 2.5 GB")
    parser.add_argument("--measure", choices=MEASURED, help="one measurement, printed as JSON")
    parser.add_argument("--size", choices=SIZES, default="1 B")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURED[arguments.measure](arguments.folder, arguments.size)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        shards, sparse = Path(name) / "shards", Path(name) / "sparse"
        shards.mkdir()
        sparse.mkdir()
        write_shards(shards, "1 B")
        text = page(
            in_a_process("show", shards, "1 B"),
            in_a_process("apply", shards, "1 B"),
            in_a_process("plan", sparse, "7 B"),
        )
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
