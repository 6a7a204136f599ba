"""Open, plan and apply in a process of its own, and print what that read and how much memory it took (Linux).

python tests/apply_in_child.py CHECKPOINT LAYOUT LAYER…     each layer a square matrix of SIDE
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

SIDE = 1024


def bytes_read():
    """Through any read call of this process, from files and caches alike."""
    return int(Path("/proc/self/io").read_text().split()[1])


def peak_bytes():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(path, layout, *layers):
    before = peak_bytes()
    from regraft import apply_plan, open_checkpoint, plan_reuse

    model = nn.Module()
    for layer in layers:
        model.add_module(layer, nn.Linear(SIDE, SIDE, bias=False))
    open_checkpoint(path)  # imports the reader's modules, which are files, too
    marks = [bytes_read()]
    checkpoint = open_checkpoint(path)
    marks.append(bytes_read())
    plan = plan_reuse(checkpoint, model, layout=layout)
    marks.append(bytes_read())
    apply_plan(plan, checkpoint, model)
    marks.append(bytes_read())
    opening, planning, applying = (after - first for first, after in pairwise(marks))
    used = {"arrays": len(checkpoint), "opening": opening, "planning": planning, "applying": applying}
    json.dump(used | {"peak_above_torch": peak_bytes() - before}, sys.stdout)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
