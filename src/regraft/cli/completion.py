"""`regraft completion`: the script that lets a shell complete commands, options and file names."""

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

from regraft.cli.printing import Commands, add_command, say
from regraft.errors import JobError

SHELLS = ("bash", "zsh", "tcsh")


def add_to(commands: Commands, whole: ArgumentParser) -> None:
    """The command and its argument.

    whole  the parser of all commands, which the script completes
    """

    def completion(*, shell: str) -> None:
        """Print the completion script of a shell.

        bash: regraft completion bash > ~/.local/share/bash-completion/completions/regraft
        zsh:  regraft completion zsh > "${fpath[1]}/_regraft"
        """
        say(script_for(whole, shell))

    add_command(commands, completion)("shell", choices=SHELLS, help="the shell that you use")


def script_for(parser: ArgumentParser, shell: str) -> str:
    """The shell's completion script. Raises JobError when shtab, which writes it, is not installed."""
    try:
        import shtab
    except ImportError as error:
        raise JobError("The completion script needs shtab: pip install 'regraft[completion]'.") from error
    for part in _parsers(parser):
        for action in part._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
    return str(shtab.complete(parser, shell))


def _parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """The parser and those of its commands, at any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for part in action.choices.values():
                yield from _parsers(part)
