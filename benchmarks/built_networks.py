"""How networks built from their files compare with their framework: files and recordings by write_keras_networks.py.

    python benchmarks/built_networks.py FOLDER/

For each NAME.npz (x, y) the files of that name are built; a row says the largest difference relative to the largest
output, the seconds to build, the lines of the source, and how many problems a plan for that source has.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from regraft.building import planned_network
from regraft.errors import RegraftError
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint


def row(file: Path, recording: Path) -> str:
    """One line of the table."""
    with np.load(recording) as arrays:
        x, y = torch.from_numpy(arrays["x"]), arrays["y"]
    began = time.perf_counter()
    checkpoint = open_checkpoint(file)
    try:
        built = planned_network(checkpoint)
    except RegraftError as error:
        return f"| {file.stem} | {file.suffix} | refused: {str(error).splitlines()[0]} | | | |"
    apply_plan(built.plan, checkpoint, built.model)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        given = built.model(x.permute(0, 3, 1, 2) if x.dim() == 4 else x).numpy()
    error = np.abs(given - y).max() / np.abs(y).max()
    scope = {"__name__": "net"}
    exec(compile(built.text, "net.py", "exec"), scope)
    problems = len(plan_reuse(checkpoint, scope["Net"]()).problems)
    lines = built.text.count("\n")
    return f"| {file.stem} | {file.suffix} | {error:.1e} | {seconds:.1f} | {lines} | {problems} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| network | file | relative error | build (s) | lines | problems |\n|---|---|---|---|---|---|")
    for found in sorted(Path(sys.argv[1]).glob("*.npz")):
        for suffix in (".keras", ".h5"):
            if found.with_suffix(suffix).is_file():
                print(row(found.with_suffix(suffix), found), flush=True)
