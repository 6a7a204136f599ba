"""What commands print."""

from argparse import ArgumentParser

import pytest

from regraft.cli.printing import add_command, refuse_usage, say, warn


def test_results_and_warnings_go_to_their_own_streams(capsys):
    """Standard output stays data."""
    say("result")
    warn("note: \x1b[2Jslow")
    say("\x1b]0;x\x07\tb")
    assert capsys.readouterr() == ("result\n\\u001b]0;x\\u0007\tb\n", "note: \\u001b[2Jslow\n")


def test_arguments_that_do_not_go_together_end_with_2(capsys):
    """As argparse does for what it finds itself."""
    with pytest.raises(SystemExit, match=r"^2$"):
        refuse_usage("plan", "choose one")
    assert capsys.readouterr().err == "regraft plan: error: choose one\n"


def test_a_command_shows_its_functions_docstring_as_help(capsys):
    """One text for both readers."""

    def count():
        """Counts arrays. Reads no values."""

    parser = ArgumentParser("x")
    add_command(parser.add_subparsers(), count)
    assert "Counts arrays" in parser.format_help()
    assert parser.parse_args(["count"]).command is count
