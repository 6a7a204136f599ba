"""Problems that are alike are told once, and their advice is together and can be pasted."""

from regraft.errors import Advice
from regraft.plans.problems import advice_for, problem_advice, problem_text
from regraft.plans.rows import RequirementRow, Row, Setting


def test_settings_that_differ_alike_are_told_once():
    """Fifty norms with another eps are one problem to mend."""
    rows = [
        RequirementRow(Setting(f"bn{index}", "eps"), 1e-3, 1e-5, "differs", note=f"Set it: bn{index}")
        for index in range(50)
    ]

    text = problem_text((), rows)

    assert text.splitlines()[1:] == [
        "  setting bn0.eps  expected 0.001, got 1e-05",
        "  Set it: bn0",
        "  and 49 more like it: bn1.eps, bn2.eps, bn3.eps, bn4.eps, bn5.eps, bn6.eps, …",
    ]


def missing(name):
    return Row(name, (), "missing", target_shape=(2,), advice=(Advice("fresh", [name], "keep the initial weights"),))


def test_advice_for_whole_layers_names_the_layers():
    """As far out as everything below is meant."""
    rows = [missing("head.fc.weight"), missing("head.fc.bias"), missing("stem.bias"), Row("stem.weight", (), "exact")]

    assert problem_advice(rows, ()) == (Advice("fresh", ["head", "stem.bias"], "keep the initial weights"),)


def test_many_names_that_differ_in_numbers_become_one_pattern():
    """Unless the pattern would match another row as well."""
    rows = [
        RequirementRow(
            Setting(f"bn{index}", "eps"), 1, 2, "differs", advice=(Advice("adopt", [rf"bn{index}\.eps"], "set it"),)
        )
        for index in range(9)
    ]
    other = RequirementRow(Setting("bn77", "eps"), 1, 1, "met")

    assert advice_for(rows, rows) == (Advice("adopt", [r"bn\d+\.eps"], "set it"),)
    assert advice_for(rows, [*rows, other])[0].value == [rf"bn{index}\.eps" for index in range(9)]


def test_ways_to_adapt_are_one_dictionary():
    kernels = {name: Advice("adapt", {name: "transposed"}, "swap the axes") for name in ("a.weight", "b.weight")}
    rows = [Row(name, ("x",), "ambiguous", advice=(advice,)) for name, advice in kernels.items()]

    (advice,) = advice_for(rows, rows)

    assert advice.value == {"a.weight": "transposed", "b.weight": "transposed"}
