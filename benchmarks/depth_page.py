"""Write docs/depth.md from the rows of depth.py and depth_tuning.py.

python benchmarks/depth_page.py
"""

import json
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

import torch
from depth import BUILD, PER_CLASS, read_rows
from depth_judging import (
    FAMILIES,
    Cell,
    advisors_of,
    best_is_tied,
    cells_of,
    coverage,
    explained,
    multiplier,
    p90,
    regrets,
    smallest,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "depth.md"
TUNED = BUILD / "tuned.jsonl"
LEAST_TUNED = 40  # cells on three families, before a rule on fine-tuning is believed
INTRO = """# Depth: how many layers to reuse

This page is written by `make depth`. It compares what [`advise`](how-to/how-many-layers.md) says of a network and some
labelled examples with the truth: the accuracy on test examples of a linear head at every place to cut.
"""
METHOD = """## Method

Every layer's output is averaged over its positions. A ridge regression with an intercept is fitted to the one-hot
labels, for 17 strengths. Each example is predicted by the others: one example of each class is left out at a time,
exactly, from one eigendecomposition. Leaving out one example alone lowers the share of its own class, so that features
that say nothing would predict every other class. The strength and the place are those with the smallest squared error.

The parts are known. Probes at every layer: Alain and Bengio, "Understanding intermediate layers using linear classifier
probes", 2016. How transferability falls with depth: Yosinski et al., "How transferable are features in deep neural
networks?", 2014. Heads on all layers: Evci et al., "Head2Toe: utilizing intermediate representations for better
transfer learning", 2022; here without selection of features. Left-out predictions of ridge regression: Allen, 1974;
blocks of rows: Cook and Weisberg, 1982.

The rules (squared error, intervals of 2.1 standard errors, no advice below 10 % of the variance) were chosen on 99
older cells of seven sources. Two TensorFlow networks and MobileNet are among the sources of both. The tables here test
the rules on other sources, targets and draws. Sources of our own are small and trained for minutes, the transformers
for 150 steps alone: weak sources, beside which the input is hard to beat.
"""


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, marks, *rows]) + "\n"


def regret_table(cells: Sequence[Cell]) -> str:
    """One row for each advisor: all cells, by family, by number of labels."""
    parts = {"all": cells, **{family: [cell for cell in cells if cell.family == family] for family in FAMILIES}}
    parts |= {f"{n} per class": [cell for cell in cells if cell.n == n] for n in PER_CLASS}
    parts = {name: some for name, some in parts.items() if some}
    rows = []
    for name, (advisor, more) in advisors_of(cells).items():
        losses = [regrets(some, advisor, more) for some in parts.values()]
        rows.append([name, *(f"{mean(loss):.2f} / {p90(loss):.1f}" for loss in losses)])
    return table(["Advisor", *(f"{name} ({len(some)})" for name, some in parts.items())], rows)


def joined_table(cells: Sequence[Cell]) -> str:
    """What all cuts together gain over the last cut, the chosen cut, and the best single cut."""
    rows = []
    for family in FAMILIES:
        for n in PER_CLASS:
            some = [cell for cell in cells if cell.family == family and cell.n == n]
            if not some:
                continue
            gains = [
                [100 * (cell.truth("all") - cell.truth(cell.cuts[-1])) for cell in some],
                [
                    100 * (cell.truth("all") - mean(cell.truth(smallest("error")(cell, d)) for d in cell.draws))
                    for cell in some
                ],
                [100 * (cell.truth("all") - max(map(cell.truth, cell.cuts))) for cell in some],
            ]
            rows.append(
                [f"{family}, {n}", *(f"{mean(gain):+.1f} ({min(gain):+.1f} … {max(gain):+.1f})" for gain in gains)]
            )
    return table(
        ["Family, labels of each class", "over the last cut", "over the chosen cut", "over the best cut"], rows
    )


def source_table(cells: Sequence[Cell]) -> str:
    """Each source with its depth, its targets, the best share of depth, and the regret of the advice."""
    rows = []
    for source in dict.fromkeys(cell.source for cell in cells):
        some = [cell for cell in cells if cell.source == source]
        best = [max(range(len(cell.cuts)), key=lambda k, cell=cell: cell.truth(cell.cuts[k])) + 1 for cell in some]
        loss = regrets(some, smallest("error", "input", "all"), ["input"])
        wins = mean(cell.truth("input") >= max(map(cell.truth, cell.cuts)) for cell in some)
        rows.append([
            f"`{source}`", some[0].family, f"{len(some[0].cuts)}", f"{len({cell.target for cell in some})}",
            f"{min(best)} … {max(best)}", f"{100 * wins:.0f} %", f"{mean(loss):+.2f} / {p90(loss):.1f}",
        ])  # fmt: skip
    return table(["Source", "family", "cuts", "targets", "best cut", "input is best", "regret of `advise`"], rows)


def tuning_part() -> Iterator[str]:
    """What fine-tuning gave, as far as it was measured."""
    rows = [json.loads(line) for line in TUNED.read_text().splitlines()] if TUNED.exists() else []
    yield "## Fine-tuning\n"
    yield (
        "The advice says nothing of layers that are trained. Below are the trained arms that were measured, with few "
        "steps (150 for MLPs, 60 for the others), 600 test examples and one to three draws: differences below 2 points "
        "mean nothing. *To peak*: up to the cut with the smallest squared error.\n"
    )
    known = {(c.source, c.target, c.n): c for c in cells_of(read_rows())}
    grouped: dict[tuple, dict[str, list[float]]] = {}
    for row in rows:
        grouped.setdefault((row["family"], row["source"], row["target"], row["n"]), {}).setdefault(
            row["arm"], []
        ).append(row["truth"])
    for key, arms in grouped.items():
        cell = known.get(key[1:])
        if cell is not None:
            chosen = [draw[smallest("error", "input", "all")(cell, draw)]["truth"] for draw in cell.draws]
            arms["`advise`: frozen, exact head"] = chosen[: len(arms["scratch"])]
    counts = {family: sum(key[0] == family for key in grouped) for family in FAMILIES}
    body = []
    for arm in dict.fromkeys(arm for arms in grouped.values() for arm in arms):
        cells = []
        for family in FAMILIES:
            losses = [
                100 * (max(map(mean, arms.values())) - mean(arms[arm]))
                for key, arms in grouped.items()
                if key[0] == family
            ]
            cells.append(f"{mean(losses):.1f} / {p90(losses):.1f}" if losses else "")
        body.append([arm, *cells])
    yield table(
        ["Policy, regret in points (mean / p90)", *(f"{family} ({counts[family]} cells)" for family in FAMILIES)], body
    )
    yield (
        f"These are {sum(counts.values())} cells. `advise` gives no rule on fine-tuning: one would have to hold on "
        f"{LEAST_TUNED} cells of three families first.\n"
    )


def page(cells: Sequence[Cell]) -> Iterator[str]:
    """The page, part by part."""
    real = [cell for cell in cells if not cell.is_random and not cell.is_control]
    random = [draw for cell in cells if cell.is_random for draw in cell.draws]
    untrained = [cell for cell in cells if cell.is_control]
    yield INTRO
    yield (
        f"Measured {datetime.now(UTC):%Y-%m-%d} with torch {torch.__version__} on {platform.machine()}, one thread: "
        f"{len(real)} cells of {len({cell.source for cell in real})} trained sources, three draws each. A cell is a "
        "source, a target and a number of labels of each class. The regret of an advisor is what its pick loses in "
        "points of accuracy against the best place measured, mean over the draws; tables show its mean / the value "
        "that nine of ten cells do not exceed. Draws of the same target share test images, and several sources share "
        "targets: cells are not independent.\n"
    )
    yield METHOD
    yield "## Regret\n"
    yield "Against the best single cut; the last three rows against the best of input and cuts. Below 0: better.\n"
    yield regret_table(real)
    yield "## Sources\n"
    yield source_table(real)
    yield "## All layers together\n"
    yield "Points of accuracy of a head on all cuts together, mean (lowest … highest cell).\n"
    yield joined_table(real)
    yield "## Intervals\n"
    narrow, wide = coverage(real, 1.645)[0], coverage(real, 2.1)
    by_family = {family: coverage([cell for cell in real if cell.family == family], 2.1) for family in FAMILIES}
    yield (
        "The interval of the choice less the last cut holds the true difference of the two heads in "
        f"{100 * wide[0]:.0f} % of {wide[1]} draws with 2.1 standard errors, and in {100 * narrow:.0f} % with 1.645, "
        "the nominal 90 %. "
        + ", ".join(f"{family} {100 * share:.0f} %" for family, (share, count) in by_family.items() if count)
        + f". On these cells {multiplier(real):.2f} standard errors would give 90 %. The truly best candidate is the "
        f"choice or tied with it in {100 * best_is_tied(real):.0f} % of the draws.\n"
    )
    answered = [value for value in map(explained, random) if value >= 0.1]
    silent = [value < 0.1 for cell in real for value in map(explained, cell.draws)]
    yield "## Negative controls\n"
    yield (
        f"Random labels: {len(answered)} of {len(random)} draws were answered; the largest share explained was "
        f"{100 * max(map(explained, random), default=0):.1f} %. Real labels: no advice in {100 * mean(silent):.1f} % "
        "of the draws.\n"
    )
    if untrained:
        picks = [smallest("error", "input", "all")(cell, draw) for cell in untrained for draw in cell.draws]
        yield (
            f"Random weights: of {len(picks)} draws on untrained networks, the choice was the input in "
            f"{100 * mean(pick == 'input' for pick in picks):.0f} %, all layers in "
            f"{100 * mean(pick == 'all' for pick in picks):.0f} %, a layer in the others. Random layers are features "
            "too: where they win, shuffled weights show the same in the table of `advise`.\n"
        )
    seconds = [sum(row["seconds"] for row in draw.values()) for cell in real for draw in cell.draws]
    counts = [len(next(iter(draw.values()))["right"]) for cell in real for draw in cell.draws]
    yield "## Cost\n"
    yield (
        f"Beside one forward pass, the heads of all places took {mean(seconds):.2f} s of processor time on average "
        f"and {max(seconds):.2f} s at most, for {min(counts)} to {max(counts)} examples.\n"
    )
    yield from tuning_part()


if __name__ == "__main__":
    PAGE.write_text("\n".join(page(cells_of(read_rows()))), encoding="utf-8")
    print(PAGE)
