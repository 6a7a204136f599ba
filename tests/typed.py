"""The command line typed in this process: what it printed and how it ended."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from regraft.cli import main


@dataclass(frozen=True)
class Typed:
    """The exit code, standard output and standard error of a command."""

    code: int
    output: str
    errors: str


def typed(*words: object) -> Typed:
    """What `regraft WORDS` does."""
    code, output, errors = 0, io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Typed(code, output.getvalue(), errors.getvalue())
