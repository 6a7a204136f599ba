"""`regraft`: parse what was typed, call one command, turn errors into a sentence and an exit code.

By argparse: `regraft show` answers before a larger library for commands would be imported (benchmarks/startup.py).
"""

import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from io import TextIOWrapper

from regraft import __version__
from regraft.cli import caches, checkpoints, completion, features, plans, runs, starting
from regraft.cli.printing import warn
from regraft.errors import RegraftError
from regraft.foundation.progress import stoppable
from regraft.jobs.advice import spelled

STOPPED = 128  # and the signal's number: the exit code that shells give a stopped command, 130 for Ctrl-C


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line: a RegraftError prints without a traceback and exits with 1, wrong usage with 2.

    words  what was typed after `regraft`; None takes them from the process
    """
    typed = sys.argv[1:] if words is None else list(words)
    _replace_missing_characters()
    try:
        given = vars(parser().parse_args(typed or ["--help"]))
        command = given.pop("command")
        with stoppable():
            command(**given)
    except BrokenPipeError:  # `regraft show … | head` has read enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (RegraftError, OSError) as error:
        _print(error)
        sys.exit(1)
    except KeyboardInterrupt as stopped:
        warn("Stopped; nothing half-written was left.")
        number = next((value for value in stopped.args if isinstance(value, int)), signal.SIGINT)
        os._exit(STOPPED + number)  # sys.exit waits for threads, and Python may end itself by the signal instead (-2)


def _print(error: RegraftError | OSError) -> None:
    if isinstance(error, RegraftError) and error.spell is str:  # a job's errors are spelled as jobs are written
        error.spell = partial(spelled, door="command line")
    warn(f"{type(error).__name__}: {error}")


def _replace_missing_characters() -> None:
    """Let a terminal or pipe that lacks a character get another one, and a closed output swallow all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def parser() -> ArgumentParser:
    """All commands with their arguments."""
    whole = ArgumentParser(
        "regraft", description="Reuse pretrained layers: restore, freeze, compute once, train the rest."
    )
    whole.add_argument("--version", action="version", version=f"regraft {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (checkpoints, plans, starting, runs, features, caches):
        group.add_to(commands)
    completion.add_to(commands, whole)
    return whole
