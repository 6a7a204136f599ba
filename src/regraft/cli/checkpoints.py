"""`regraft show`: what a checkpoint holds."""

import gc
from pathlib import Path

from regraft.cli.printing import Commands, add_command, say


def add_to(commands: Commands) -> None:
    """The command and its arguments."""
    add = add_command(commands, show)
    add("checkpoint", type=Path, help="a checkpoint: file, folder, or TensorFlow prefix")
    add("--json", dest="as_json", action="store_true", help="machine-readable")


def show(checkpoint: Path, *, as_json: bool) -> None:
    """Names, shapes and dtypes of a checkpoint's arrays. Reads no values."""
    # 10,000 arrays are 100,000 small objects that all stay: looking for garbage among them is a quarter of the time.
    gc.disable()
    try:
        from regraft.formats.listing import as_table, as_text
        from regraft.reading import open_checkpoint

        opened = open_checkpoint(checkpoint)
        say(as_text(opened) if as_json else as_table(opened))
    finally:
        gc.enable()
