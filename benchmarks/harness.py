"""Side by side in one process: contenders take turns, round by round, and are told with median and spread."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass
class Contender:
    """One way of doing the work.

    run    does it once and gives the number: seconds, or what `unit` says
    guide  title of the page by which a competent user of it would write it so
    """

    name: str
    run: Callable[[], float]
    guide: str = ""


@dataclass
class Goal:
    """`slower` divided by `faster`, round by round, has to be at least (or at most) the goal."""

    text: str
    slower: str
    faster: str
    least: float | None = None
    most: float | None = None


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
        pairs = zip(self.samples[goal.slower], self.samples[goal.faster], strict=True)
        ratios = [slower / faster for slower, faster in pairs]
        return median(ratios), min(ratios), max(ratios)

    def markdown(self) -> str:
        """The tables of this workload."""
        lines = [f"### {self.title}", "", f"| | median {self.unit} | lowest – highest | rounds |", "|---|---|---|---|"]
        for name, values in self.samples.items():
            guide = f" ({self.guides[name]})" if self.guides.get(name) else ""
            spread = f"{number(min(values))} – {number(max(values))}"
            lines.append(f"| {name}{guide} | {number(median(values))} | {spread} | {len(values)} |")
        if self.goals:
            lines += ["", "| goal | ratio in one run | lowest – highest | reached |", "|---|---|---|---|"]
        for goal in self.goals:
            middle, low, high = self.ratio(goal)
            reached = (goal.least is None or middle >= goal.least) and (goal.most is None or middle <= goal.most)
            lines.append(f"| {goal.text} | {middle:.2f} | {low:.2f} – {high:.2f} | {'yes' if reached else '**no**'} |")
        return "\n".join([*lines, "", *[f"{note}\n" for note in self.notes]])


def number(value: float) -> str:
    """Four digits that count."""
    return f"{value:.4g}"


def take_turns(
    title: str, unit: str, contenders: Sequence[Contender], *, rounds: int, goals: Sequence[Goal] = (),
    notes: Sequence[str] = (),
) -> Table:  # fmt: skip
    """Run each contender once unmeasured, then `rounds` times in turn; other load on the machine hits all alike."""
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        contender.run()
    for number_of_round in range(rounds):
        for contender in contenders:
            samples[contender.name].append(contender.run())
            told = f"{contender.name}: {number(samples[contender.name][-1])} {unit}"
            print(f"  round {number_of_round + 1}: {told}", file=sys.stderr, flush=True)
    guides = {contender.name: contender.guide for contender in contenders}
    return Table(title, unit, samples, list(goals), guides, list(notes))


def tell(tables: Sequence[Table]) -> None:
    """What a workload's file ends with: the tables on standard output, as JSON for bench.py, else to be read."""
    if "--json" in sys.argv:
        print(json.dumps([asdict(table) for table in tables]))
    else:
        print("\n".join(table.markdown() for table in tables))


def needs_shared(*parts: str) -> Path:
    """A path of the reference material; ends with a sentence where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        sys.exit(f"This workload needs the reference material, and {path.name} is not in ../shared.")
    return path
