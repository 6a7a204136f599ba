"""Measure several variants in one process, in turns, and report median and range."""

import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

VERSIONED = ("torch", "numpy", "PIL", "torchvision", "sklearn", "tensorflow", "keras", "lightning")
SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass
class Contender:
    """One way of doing the work.

    run    does it once and returns the measured number: seconds, or what `unit` says
    guide  a Markdown link to the page of the documentation that it follows
    """

    name: str
    run: Callable[[], float]
    guide: str = ""


@dataclass
class Goal:
    """A bound for the ratio `slower` / `faster` of each round.

    faster  "" for a bound on `slower` itself: a goal in seconds, or an exponent
    limit   what limits the result, and what would improve it: printed when the goal is missed
    """

    text: str
    slower: str
    faster: str = ""
    least: float | None = None
    most: float | None = None
    limit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is within the bound."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass
class Table:
    """The result of a workload: the samples of each contender, in the order of rounds."""

    title: str
    unit: str
    samples: dict[str, list[float]]
    goals: list[Goal] = field(default_factory=list)
    guides: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ratio(self, goal: Goal) -> tuple[float, float, float]:
        """Median, lowest and highest ratio over the rounds."""
        slower = self.samples[goal.slower]
        faster = self.samples[goal.faster] if goal.faster else [1.0] * len(slower)
        ratios = [one / other for one, other in zip(slower, faster, strict=True)]
        return median(ratios), min(ratios), max(ratios)

    def reached(self, goal: Goal) -> bool:
        """Whether the median is within the bound."""
        return goal.holds(self.ratio(goal)[0])

    def verdict(self, goal: Goal) -> str:
        """Whether the goal is reached, and whether every round agrees."""
        middle, low, high = self.ratio(goal)
        certain = goal.holds(low) == goal.holds(high) == goal.holds(middle)
        return ("yes" if goal.holds(middle) else "**no**") + ("" if certain else ", by the median only")

    def sides(self, goal: Goal) -> str:
        """What is compared."""
        return f"{goal.slower} / {goal.faster}" if goal.faster else f"{goal.slower} ({self.unit})"

    def summary(self, goal: Goal) -> str:
        """Comparison, goal, median (lowest – highest), reached: the cells of a row."""
        middle, low, high = self.ratio(goal)
        values = f"{middle:.3g} ({low:.3g} – {high:.3g})"
        return f"{self.sides(goal)} | {goal.text} | {values} | {self.verdict(goal)}"

    def markdown(self) -> str:
        """The tables of this workload."""
        lines = [f"### {self.title}", "", f"| | median {self.unit} | lowest – highest | rounds |", "|---|---|---|---|"]
        for name, values in self.samples.items():
            guide = f" ({self.guides[name]})" if self.guides.get(name) else ""
            spread = f"{number(min(values))} – {number(max(values))}"
            lines.append(f"| {name}{guide} | {number(median(values))} | {spread} | {len(values)} |")
        if self.goals:
            lines += ["", "| comparison | goal | median (lowest – highest) | reached |", "|---|---|---|---|"]
            lines += [f"| {self.summary(goal)} |" for goal in self.goals]
        missed: dict[str, list[str]] = {}
        for goal in self.goals:
            if goal.limit and not self.reached(goal):
                missed.setdefault(goal.limit, []).append(self.sides(goal))
        lines += [part for limit, sides in missed.items() for part in ("", f"Missed by {' · '.join(sides)}: {limit}")]
        return "\n".join([*lines, "", *[f"{note}\n" for note in self.notes]])


def number(value: float) -> str:
    """The value with four significant digits."""
    return f"{value:.4g}"


def take_turns(
    title: str, unit: str, contenders: Sequence[Contender], *, rounds: int, goals: Sequence[Goal] = (),
    notes: Sequence[str] = (), warm: bool = True,
) -> Table:  # fmt: skip
    """Run all contenders in turns, `rounds` times, after an unmeasured run of each if `warm`."""
    rounds = asked_rounds() or rounds
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    if warm:
        for contender in contenders:
            contender.run()
    for number_of_round in range(rounds):
        for contender in contenders:
            samples[contender.name].append(contender.run())
            text = f"{contender.name}: {number(samples[contender.name][-1])} {unit}"
            print(f"  round {number_of_round + 1}: {text}", file=sys.stderr, flush=True)
    guides = {contender.name: contender.guide for contender in contenders}
    return Table(title, unit, samples, list(goals), guides, list(notes))


def asked_rounds() -> int:
    """The N of `--rounds N`; 0: the default of the workload."""
    return int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 0


def report(tables: Sequence[Table]) -> None:
    """Print the tables: as JSON for bench.py when `--json` is passed, else as Markdown."""
    if "--json" in sys.argv:
        versions = {"Python": platform.python_version()}
        versions |= {name: sys.modules[name].__version__ for name in VERSIONED if name in sys.modules}
        print(json.dumps({"tables": [asdict(table) for table in tables], "versions": versions}))
    else:
        print("\n".join(table.markdown() for table in tables))


def table_from(data: dict) -> Table:
    """The table in JSON that `report` has written."""
    return Table(**data | {"goals": [Goal(**goal) for goal in data["goals"]]})


def needs_shared(*parts: str) -> Path:
    """A path of the reference material. Exits with a message when it does not exist."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        sys.exit(f"This workload needs the reference material, and {path.name} is not in ../shared.")
    return path
