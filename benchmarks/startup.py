"""Measure the startup time: `import regraft` beyond torch, and `regraft show` on 10,000 arrays.

python benchmarks/startup.py            prints a table
python benchmarks/startup.py --runs 21  more runs

Every number is CPU time, so that other work on the machine counts less; on an idle machine it equals the elapsed time.
`show` is a whole process, from its start to its end. All cases run in turns, with a bare `import numpy` among them: use
the ratio to it to compare machines. Bytecode is compiled in an extra turn before, as an installation does.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
from tables import write_bundle  # noqa: E402 - the tests' writer: TensorFlow cannot be installed here

COUNT = 10_000
GOALS_S = {"regraft beyond torch": 0.15, "show": 0.5}
IMPORT = """
import time, torch
start = time.process_time()
import regraft
{then}
print(time.process_time() - start)
"""
SHOW = """
import sys
from regraft.cli import main
sys.argv = ["regraft", "show", {path!r}]
try:
    main()
finally:
    assert "torch" not in sys.modules
"""


def write_samples(folder: Path) -> dict[str, Path]:
    """A checkpoint of 10,000 small arrays in each of four formats."""
    names = [f"encoder.layer.{number}.{leaf}" for number in range(COUNT // 2) for leaf in ("weight", "bias")]
    arrays = {name: np.ones((3, 2) if name.endswith("weight") else (3,), np.float32) for name in names}
    save_file(arrays, folder / "m.safetensors")
    np.savez(folder / "m.npz", **arrays)
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "m.pt")
    bundle = write_bundle(folder / "m.ckpt", {name.replace(".", "/"): array for name, array in arrays.items()})
    return {
        "TensorFlow V2": bundle,
        "safetensors": folder / "m.safetensors",
        "torch (ZIP)": folder / "m.pt",
        "npz": folder / "m.npz",
    }


def cpu_s(code: str, bytecode: Path) -> float:
    """CPU time of a new Python process that runs the code; for an import the time that the code prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "process_time" in code:
        return float(done.stdout)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(cases: dict[str, str], runs: int, bytecode: Path) -> dict[str, list[float]]:
    """Seconds of each case; the cases run in turns, after one turn that compiles the bytecode."""
    turns = [{name: cpu_s(code, bytecode) for name, code in cases.items()} for _ in range(runs + 1)]
    return {name: [turn[name] for turn in turns[1:]] for name in cases}


def row(name: str, seconds: Sequence[float], bare: Sequence[float], goal: float | None = None) -> str:
    """One line: median, range, ratio to the bare case turn by turn, goal."""
    ratio = median(one / other for one, other in zip(seconds, bare, strict=True))
    verdict = "" if goal is None else f"≤ {goal:.2f}  {'reached' if median(seconds) <= goal else 'missed'}"
    return f"{name:<32}{median(seconds):>7.3f}   {min(seconds):.3f} – {max(seconds):.3f}   {ratio:>5.1f}   {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "import numpy": "import numpy",
            "regraft beyond torch": IMPORT.format(then=""),
            "and every public name": IMPORT.format(then="[getattr(regraft, name) for name in regraft.__all__]"),
        }
        cases |= {f"show, {kind}": SHOW.format(path=str(path)) for kind, path in write_samples(folder).items()}
        seconds = measured(cases, runs, folder / "bytecode")
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, torch {torch.__version__}, {os.cpu_count()} cores")
    print(f"{COUNT:,} arrays, {runs} runs; load of the machine at the end: {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<32}{'median':>7}   {'range, s':<13}   {'numpy':>5}   goal, s")
    for case, taken in seconds.items():
        print(row(case, taken, seconds["import numpy"], GOALS_S.get(case.split(",")[0])))


if __name__ == "__main__":
    main()
