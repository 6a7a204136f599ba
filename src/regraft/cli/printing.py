"""What commands print, and how a command is added to the parser."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from regraft.errors import visible

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"  # quoted: only its stub takes a parameter


def say(text: str) -> None:
    """Print a result. At once: a job tells what it does while it runs, also into a pipe."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print what is no result."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def refuse_usage(command: str, text: str) -> NoReturn:
    """End with exit code 2, as argparse does for arguments that do not go together."""
    warn(f"regraft {command}: error: {text}")
    sys.exit(2)


def add_command(commands: Commands, function: Callable[..., None], name: str = "") -> Callable[..., Any]:
    """A new command that calls the function and shows its docstring as help; gives what adds an argument to it."""
    text = str(function.__doc__)
    command = commands.add_parser(
        name or function.__name__,
        help=text.partition(".")[0],
        description=text,
        allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=function)
    return command.add_argument
