"""The GPU's checks and measurements run on the CPU too, with tiny networks."""

from pathlib import Path

import forked

ROOT = Path(__file__).resolve().parents[1]


def test_the_gpu_script_runs_on_the_cpu():
    """Every check holds, and each contender has its row; the page of a real GPU is left alone."""
    page = ROOT / "docs" / "gpu.md"
    before = page.read_bytes() if page.exists() else None
    done = forked.run(ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--quick", warn=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stdout
    for text in (
        "| feature pass | resnet18 | regraft, fast engine |",
        "| whole job | transformer | plain loop, 1 epochs |",
    ):
        assert text in done.stdout
    assert (page.read_bytes() if page.exists() else None) == before
