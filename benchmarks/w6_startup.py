"""W6: startup time, with the cases of startup.py, in the form that bench.py reads."""

import tempfile
from pathlib import Path

import startup
from harness import Goal, Table, asked_rounds, report

LIMITS = {
    "regraft beyond torch": "list what is imported with `python -X importtime -c 'import torch, regraft'`.",
    "show": "on an idle machine `show` takes 0.3 to 0.55 s: 0.13 to import NumPy, 0.08 for the readers (each of "
    "nineteen formats checks the file), 0.02 for Python itself; the rest reads and prints 10,000 rows, 8 µs per row "
    "for safetensors and 25 µs for torch, whose pickle has 30 instructions per array. Less would need readers that are "
    "imported on demand and a pickle machine that is not written in Python.",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "import numpy": "import numpy",
            "regraft beyond torch": startup.IMPORT.format(then=""),
            "and every public name": startup.IMPORT.format(then="[getattr(regraft, name) for name in regraft.__all__]"),
        }
        for kind, path in startup.write_samples(folder).items():
            cases[f"show, {kind}"] = startup.SHOW.format(path=str(path))
        samples = startup.measured(cases, asked_rounds() or 5, folder / "bytecode")
    goals = [
        Goal(f"≤ {startup.GOALS_S[kind]} s", case, most=startup.GOALS_S[kind], limit=LIMITS[kind])
        for case in cases
        if (kind := case.split(",")[0]) in startup.GOALS_S
    ]
    notes = [
        f"CPU time of a new process, from its start to its end. `show` of {startup.COUNT:,} arrays fails when torch is "
        "imported. Use `import numpy` to compare machines."
    ]
    report([Table("W6: startup time", "CPU s", samples, goals, notes=notes)])


if __name__ == "__main__":
    main()
