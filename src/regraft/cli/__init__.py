"""The command line: a file for each group of commands; `program.py` parses what was typed and calls one function."""

from regraft.cli.program import main

__all__ = ["main"]
