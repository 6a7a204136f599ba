"""What `make bench` makes of measurements; the workloads themselves are too long for a test."""

import json
import sys
from dataclasses import asdict

import bench
import pytest
from harness import Contender, Goal, Table, table_from, take_turns


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench.py"])


@pytest.fixture
def table():
    goals = [
        Goal("at least 2×", "theirs", "ours", least=2, limit="never told when reached."),
        Goal("at most 1 s", "ours", most=1, limit="a slow disk."),
    ]
    return Table("W0: made up", "s", {"ours": [1.0, 2.0, 4.0], "theirs": [4.0, 8.0, 4.0]}, goals)


@pytest.fixture
def outcome(table):
    facts = {
        "command": "python benchmarks/bench.py W1", "date": "2026-11-22", "seconds": 3.0, "load": 1.5, "threads": "1",
        "versions": {"torch": "2"}, "machine": "two cores",
    }  # fmt: skip
    return bench.Outcome("W1", facts, [table])


def test_a_ratio_is_taken_round_by_round(table):
    assert table.ratio(table.goals[0]) == (4, 1, 4)  # not 4 s / 2 s, the ratio of the medians


def test_a_goal_without_a_second_side_is_the_value_itself(table):
    assert table.ratio(table.goals[1]) == (2, 1, 4)


def test_the_median_decides_whether_a_goal_is_reached(table):
    assert [table.reached(goal) for goal in table.goals] == [True, False]


def test_a_goal_that_every_round_reaches_is_reached_without_more_words(table):
    assert table.verdict(Goal("at most 9 s", "ours", most=9)) == "yes"


def test_the_limit_is_told_of_missed_goals_only(table):
    assert "Missed by ours (s): a slow disk." in table.markdown()
    assert "never told" not in table.markdown()


def test_contenders_take_turns_after_one_unmeasured_run():
    order = []
    contenders = [Contender(name, lambda name=name: order.append(name) or len(order)) for name in "ab"]

    samples = take_turns("W0", "s", contenders, rounds=2).samples

    assert "".join(order) == "ababab"
    assert samples == {"a": [3, 5], "b": [4, 6]}


def test_a_table_survives_its_json(table):
    assert table_from(json.loads(json.dumps(asdict(table)))) == table


def test_the_page_says_what_was_reached_where_and_what_is_missing(outcome):
    page = bench.page([outcome])

    assert "1 of 2 goals reached" in page
    assert "Not measured: W2, W3, W4, W5, W6, W7, W8, W9, W10." in page
    assert "| W1 | theirs / ours | at least 2× | 4 (1 – 4) | yes, by the median only |" in page
    assert "| W1 | ours (s) | at most 1 s | 2 (1 – 4) | **no**, by the median only |" in page
    assert "load average at the start 1.5" in page


def test_a_busy_machine_is_told(outcome):
    outcome.facts["load"] = 1000

    assert "The machine was busy with other work" in bench.page([outcome])


def test_every_workload_is_a_file():
    assert all((bench.ROOT / "benchmarks" / file).exists() for file in bench.WORKLOADS.values())


def test_an_unknown_workload_is_refused_by_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "W99"])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "no workload W99. Workloads: W1, W2" in capsys.readouterr().err
