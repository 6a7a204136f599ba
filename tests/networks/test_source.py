"""Parts of a network's class."""

from regraft.networks.source import Statement, container_text, is_list, words_of


def test_a_line_sets_its_variables():
    """All of them."""
    assert Statement(("x", "y"), "f(z)").line == "x, y = f(z)"
    assert words_of((2, 3)) == "(n, 3)"


def test_what_holds_numbered_modules_is_a_list():
    """From 0 without a gap; other numbers are keys."""
    assert is_list(["0", "1"])
    assert container_text("a", {"a": ["0", "2"]}) == "nn.ModuleDict()"
    assert container_text("a", {"a": ["conv"]}) == "nn.Module()"
