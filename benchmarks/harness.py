"""Side by side in one process: contenders take turns, round by round, and are told with median and spread."""

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

    run    does it once and gives the number: seconds, or what `unit` says
    guide  the page, as a Markdown link, by which a competent user of it would write it so
    """

    name: str
    run: Callable[[], float]
    guide: str = ""


@dataclass
class Goal:
    """`slower` divided by `faster`, round by round, has to be at least (or at most) the goal.

    faster  "" takes `slower` as it is: a goal in seconds, or an exponent
    limit   what sets the limit, and what would be needed: told where the goal is missed
    """

    text: str
    slower: str
    faster: str = ""
    least: float | None = None
    most: float | None = None
    limit: str = ""

    def holds(self, value: float) -> bool:
        """Whether this value is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass
class Table:
    """A workload's outcome: samples by contender, in the order of rounds."""

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
        """Whether the median is where it has to be."""
        return goal.holds(self.ratio(goal)[0])

    def verdict(self, goal: Goal) -> str:
        """Whether it is reached, and whether every round says so."""
        middle, low, high = self.ratio(goal)
        certain = goal.holds(low) == goal.holds(high) == goal.holds(middle)
        return ("yes" if goal.holds(middle) else "**no**") + ("" if certain else ", by the median only")

    def sides(self, goal: Goal) -> str:
        """What is measured against what."""
        return f"{goal.slower} / {goal.faster}" if goal.faster else f"{goal.slower} ({self.unit})"

    def summary(self, goal: Goal) -> str:
        """What against what · goal · median (lowest – highest) · reached, as cells of a row."""
        middle, low, high = self.ratio(goal)
        told = f"{middle:.3g} ({low:.3g} – {high:.3g})"
        return f"{self.sides(goal)} | {goal.text} | {told} | {self.verdict(goal)}"

    def markdown(self) -> str:
        """The tables of this workload."""
        lines = [f"### {self.title}", "", f"| | median {self.unit} | lowest – highest | rounds |", "|---|---|---|---|"]
        for name, values in self.samples.items():
            guide = f" ({self.guides[name]})" if self.guides.get(name) else ""
            spread = f"{number(min(values))} – {number(max(values))}"
            lines.append(f"| {name}{guide} | {number(median(values))} | {spread} | {len(values)} |")
        if self.goals:
            lines += ["", "| what | goal | median (lowest – highest) | reached |", "|---|---|---|---|"]
            lines += [f"| {self.summary(goal)} |" for goal in self.goals]
        missed: dict[str, list[str]] = {}
        for goal in self.goals:
            if goal.limit and not self.reached(goal):
                missed.setdefault(goal.limit, []).append(self.sides(goal))
        lines += [part for limit, sides in missed.items() for part in ("", f"Missed by {' · '.join(sides)}: {limit}")]
        return "\n".join([*lines, "", *[f"{note}\n" for note in self.notes]])


def number(value: float) -> str:
    """Four digits that count."""
    return f"{value:.4g}"


def take_turns(
    title: str, unit: str, contenders: Sequence[Contender], *, rounds: int, goals: Sequence[Goal] = (),
    notes: Sequence[str] = (), warm: bool = True,
) -> Table:  # fmt: skip
    """Run each contender `rounds` times in turn, after one unmeasured run (warm): other load hits all alike."""
    rounds = asked_rounds() or rounds
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    if warm:
        for contender in contenders:
            contender.run()
    for number_of_round in range(rounds):
        for contender in contenders:
            samples[contender.name].append(contender.run())
            told = f"{contender.name}: {number(samples[contender.name][-1])} {unit}"
            print(f"  round {number_of_round + 1}: {told}", file=sys.stderr, flush=True)
    guides = {contender.name: contender.guide for contender in contenders}
    return Table(title, unit, samples, list(goals), guides, list(notes))


def asked_rounds() -> int:
    """What `--rounds N` asks for; 0 leaves it to the workload."""
    return int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 0


def tell(tables: Sequence[Table]) -> None:
    """What a workload's file ends with: the tables on standard output, as JSON for bench.py, else to be read."""
    if "--json" in sys.argv:
        versions = {"Python": platform.python_version()}
        versions |= {name: sys.modules[name].__version__ for name in VERSIONED if name in sys.modules}
        print(json.dumps({"tables": [asdict(table) for table in tables], "versions": versions}))
    else:
        print("\n".join(table.markdown() for table in tables))


def table_from(told: dict) -> Table:
    """A table that `tell` wrote as JSON."""
    return Table(**told | {"goals": [Goal(**goal) for goal in told["goals"]]})


def needs_shared(*parts: str) -> Path:
    """A path of the reference material; ends with a sentence where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        sys.exit(f"This workload needs the reference material, and {path.name} is not in ../shared.")
    return path
