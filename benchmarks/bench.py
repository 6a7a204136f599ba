"""Run the workloads, print one table of goals, and write docs/benchmarks.md.

    python benchmarks/bench.py                  all workloads
    python benchmarks/bench.py W1 W4            some; the page keeps earlier results of the others
    python benchmarks/bench.py W3 --rounds 1    fewer rounds

Each workload is a file and runs in its own process, one after the other. A workload with heavy peers runs in an extra
environment, .venv-bench, which is created when it is missing; REGRAFT_BENCH_PYTHON names the Python of another one.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import Table, table_from

ROOT = Path(__file__).resolve().parents[1]
PAGE, KEPT = ROOT / "docs" / "benchmarks.md", ROOT / "build" / "benchmarks"
WORKLOADS = {
    "W1": "w1_chapter.py",
    "W2": "w2_vehicles.py",
    "W3": "w3_linear_head.py",
    "W4": "w4_feature_pass.py",
    "W5": "head_step.py",
    "W6": "w6_startup.py",
    "W7": "w7_growth.py",
    "W8": "w8_split.py",
    "W9": "w9_predict.py",
    "W10": "w10_busy.py",
}
HEAVY_PEERS = {"W1"}  # TensorFlow, Keras, Lightning
UNPINNED = ("h5py==",)  # TensorFlow 2.21 needs a version below 3.15
HEADING = "| workload | comparison | goal | median (lowest – highest) | reached |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Outcome:
    """The result of a workload, and where and when it ran."""

    name: str
    facts: dict
    tables: list[Table]

    def rows(self) -> list[str]:
        """Its goals, as rows of the summary table."""
        return [f"| {self.name} | {table.summary(goal)} |" for table in self.tables for goal in table.goals]

    def section(self) -> str:
        """Its tables, below a line that says how they were measured."""
        facts = self.facts
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        conditions = (
            f"`{facts['command']}` on {facts['date']}, {facts['seconds']:.0f} s; load average at the start "
            f"{facts['load']:.1f}; OMP_NUM_THREADS {facts['threads']}; {versions}."
        )
        return "\n\n".join([f"## {self.name}", conditions, *[table.markdown().rstrip() for table in self.tables]])


def peers_python() -> Path:
    """The Python that has the heavy peers; the environment is created when it is missing."""
    if named := os.environ.get("REGRAFT_BENCH_PYTHON"):
        return Path(named)
    folder = ROOT / ".venv-bench"
    python, whole = folder / "bin" / "python", folder / ".made"
    if not whole.exists():
        print(f"Making {folder.name} with the heavy peers (2 GB, once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pins = (ROOT / "constraints.txt").read_text().splitlines()
        kept_pins = folder / "constraints.txt"
        kept_pins.write_text("\n".join(pin for pin in pins if not pin.startswith(UNPINNED)) + "\n")
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", kept_pins]
        subprocess.run([*install, "--editable", f"{ROOT}[bench]"], check=True)
        whole.touch()
    return python


def measure(name: str, rounds: int) -> Outcome | None:
    """Run a workload and store its result; None when it failed (its own messages are on the screen)."""
    python = peers_python() if name in HEAVY_PEERS else Path(sys.executable)
    options = ["--rounds", str(rounds)] if rounds else []
    print(f"{name}: {WORKLOADS[name]}", file=sys.stderr, flush=True)
    load, began, date = os.getloadavg()[0], time.perf_counter(), datetime.now(UTC)
    done = subprocess.run(
        [python, ROOT / "benchmarks" / WORKLOADS[name], "--json", *options],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    if done.returncode:
        print(f"{name} ended with {done.returncode}; docs/benchmarks.md keeps its last result.", file=sys.stderr)
        return None
    facts = {
        "command": " ".join(["python benchmarks/bench.py", name, *options]), "date": f"{date:%Y-%m-%d %H:%M} UTC",
        "seconds": time.perf_counter() - began, "load": load,
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "machine": machine(),
    }  # fmt: skip
    KEPT.mkdir(parents=True, exist_ok=True)
    result = json.loads(done.stdout.splitlines()[-1])
    (KEPT / f"{name}.json").write_text(json.dumps(facts | result))
    return kept(name)


def kept(name: str) -> Outcome | None:
    """The last result of a workload in this checkout."""
    path = KEPT / f"{name}.json"
    if not path.exists():
        return None
    facts = json.loads(path.read_text())
    return Outcome(name, facts, [table_from(table) for table in facts.pop("tables")])


def machine() -> str:
    """Processor, cores, memory and system."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].split(":")[1].strip() if models else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def page(outcomes: list[Outcome]) -> str:
    """docs/benchmarks.md."""
    goals = [(table, goal) for outcome in outcomes for table in outcome.tables for goal in table.goals]
    reached = sum(table.reached(goal) for table, goal in goals)
    missing = [name for name in WORKLOADS if name not in {outcome.name for outcome in outcomes}]
    load = max(outcome.facts["load"] for outcome in outcomes)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {reached} of {len(goals)} goals reached.",
        *([f"Not measured: {', '.join(missing)}."] if missing else []),
        "Within a workload all variants run in turns on the same work, so other load affects all of them. A ratio is",
        "computed for each round, and its median is compared with the goal. The range is the lowest and highest round.",
        "",
        *[f"Machine: {text}." for text in sorted({outcome.facts["machine"] for outcome in outcomes})],
    ]
    if load > (os.cpu_count() or 1):
        lines += [
            f"**The machine was busy with other work (load average up to {load:.1f}):** times are several times",
            "those of an idle machine, ranges are wide, and medians of few rounds are uncertain.",
        ]
    lines += ["", HEADING, *[row for outcome in outcomes for row in outcome.rows()], ""]
    return "\n".join(lines) + "\n" + "\n\n".join(outcome.section() for outcome in outcomes) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="W1 …", help="all by default")
    parser.add_argument("--rounds", type=int, default=0, help="for every workload; 0: the default of each")
    options = parser.parse_args()
    if unknown := [name for name in options.workloads if name not in WORKLOADS]:
        parser.error(f"no workload {', '.join(unknown)}. Workloads: {', '.join(WORKLOADS)}")
    chosen = options.workloads or list(WORKLOADS)
    measured = [measure(name, options.rounds) for name in chosen]
    PAGE.write_text(page([outcome for name in WORKLOADS if (outcome := kept(name))]))
    print("\n".join([HEADING, *[row for outcome in measured if outcome for row in outcome.rows()]]))
    if None in measured:
        sys.exit("Some workloads failed.")


if __name__ == "__main__":
    main()
