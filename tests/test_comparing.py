"""Finished runs side by side."""

import json
from math import sqrt

import pytest

from regraft.comparing import compare_runs
from regraft.errors import SaveError
from typed import typed


def a_run(folder, rights, *, names=None, part="test", answers=True):
    """A run folder with so much of metrics.json and answers.csv as a comparison reads."""
    folder.mkdir(parents=True)
    accuracy = sum(rights) / len(rights)
    score = {"accuracy": accuracy, "standard_error": 0.1, "count": len(rights), "loss": 0.5}
    metrics = {part: score, "epochs": 3, "seconds": {"training": 1.0, "features": 2.0}, "parameters": {"trained": 1234}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if answers:
        names = names or [f"{index}.png" for index in range(len(rights))]
        rows = [f"{name},cat,{'cat' if right else 'dog'},0.5" for name, right in zip(names, rights, strict=True)]
        (folder / "answers.csv").write_text("\n".join(["name,true,predicted,probability", *rows]) + "\n")
    return folder


def test_runs_on_the_same_examples_are_compared_example_by_example(tmp_path):
    """d = (b - c)/n, its standard error √(b + c - (b - c)²/n)/n: here b = 3, c = 1, n = 10."""
    first = a_run(tmp_path / "jobs/a/run", [True] * 5 + [False] * 5)
    other = a_run(tmp_path / "jobs/b/run", [False] + [True] * 7 + [False] * 2)
    comparison = compare_runs([first, other])
    (difference,) = comparison.differences
    assert (difference.value, difference.gained, difference.lost) == (pytest.approx(0.2), 3, 1)
    assert difference.standard_error == pytest.approx(sqrt(4 - 4 / 10) / 10)
    assert [run.name for run in comparison.runs] == ["a/run", "b/run"]
    assert str(comparison).splitlines()[0].split() == ["run", "accuracy", "examples", "trains", "epochs", "time"]
    assert "0.50 ± 0.10" in str(comparison)
    assert "b/run - a/run: +0.20 ± 0.19 (3 gained, 1 lost)" in str(comparison)
    assert json.loads(json.dumps(comparison.to_dict()))["differences"][0]["gained"] == 3


@pytest.mark.parametrize("change", [{"names": list("abcd")}, {"answers": False}, {"part": "validation"}])
def test_other_examples_are_not_compared_one_by_one(tmp_path, change):
    """Then the errors of both add up, and the line says so; answers of a run without a test are of its validation."""
    first = a_run(tmp_path / "a", [True, True, True, False])
    change.setdefault("names", list("efgh"))
    (difference,) = compare_runs([first, a_run(tmp_path / "b", [True] * 4, **change)]).differences
    assert difference.gained is None
    assert difference.standard_error == pytest.approx(sqrt(0.02))
    assert "scored on other examples" in str(difference)


def test_what_is_no_run_is_named(tmp_path):
    """A folder without metrics, damaged metrics, a run without an accuracy."""
    with pytest.raises(SaveError, match=r"nowhere is no run: metrics\.json cannot be read"):
        compare_runs([tmp_path / "nowhere"])
    run = a_run(tmp_path / "run", [True])
    (run / "metrics.json").write_text('{"test": {"accuracy": 1}}')
    with pytest.raises(SaveError, match="is damaged: KeyError"):
        compare_runs([run])
    (run / "metrics.json").write_text('{"epochs": 3}')
    with pytest.raises(SaveError, match="has no accuracy"):
        compare_runs([run])


def test_the_command_prints_a_table_and_writes_a_page(tmp_path):
    """And JSON."""
    runs = [a_run(tmp_path / name, [True, False]) for name in "ab"]
    done = typed("compare", *runs, "--out", tmp_path / "page.html")
    assert "b - a: 0.0000 ± 0.0000 (0 gained, 0 lost)" in done.output
    assert "2 runs compared" in (tmp_path / "page.html").read_text()
    assert len(json.loads(typed("compare", *runs, "--json").output)["runs"]) == 2
