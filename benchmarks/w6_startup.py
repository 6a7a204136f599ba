"""W6: how long the first answer takes, from the cases of startup.py, told as bench.py asks."""

import tempfile
from pathlib import Path

import startup
from harness import Goal, Table, asked_rounds, tell

LIMITS = {
    "regraft beyond torch": "see what is imported with `python -X importtime -c 'import torch, regraft'`.",
    "show": "on an idle machine, of 0.3 to 0.55 s importing NumPy takes 0.13, the readers 0.08 (each of nineteen "
    "formats looks at the file), Python itself 0.02; the rest reads and draws 10,000 rows, 8 µs a row for safetensors "
    "and 25 for torch, whose pickle has 30 instructions an array. Needed for less: import a reader when a file may be "
    "its own, and a pickle machine that is not written in Python.",
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
        f"Processor time of a new process, start and end included; `show` of {startup.COUNT:,} arrays fails when torch "
        "is imported. `import numpy` alone stands there to compare machines by."
    ]
    tell([Table("W6: the first answer", "processor s", samples, goals, notes=notes)])


if __name__ == "__main__":
    main()
