"""`regraft show` and `regraft code`: what a checkpoint holds, and its network as PyTorch source."""

import gc
import sys
from pathlib import Path

from regraft.cli.plans import json_arguments
from regraft.cli.printing import Commands, add_command, refuse_usage, say

_CHAIN = '{"activation": "relu", "layout": "theano"}'


def add_to(commands: Commands) -> None:
    """The command and its arguments."""
    add = add_command(commands, show)
    add("checkpoint", type=Path, help="a checkpoint: file, folder, or TensorFlow prefix")
    add("--json", dest="as_json", action="store_true", help="machine-readable")
    add("--operators", action="store_true", help="which operators the network needs, and which have no translation")

    add = add_command(commands, code)
    add("checkpoint", type=Path, help="a checkpoint that describes its network")
    add("--classes", type=int, metavar="N", help="a new head of N outputs in place of the last dense layer")
    add("--chain", metavar="JSON", help=f"what a plain list of arrays does not record: '{_CHAIN}'")
    add("--layer", default="", metavar="NAME", help="the layer that the new head replaces")


def show(checkpoint: Path, *, as_json: bool, operators: bool) -> None:
    """Names, shapes and dtypes of a checkpoint's arrays. Reads no values."""
    if operators:
        _show_operators(checkpoint)
        return
    # 10,000 arrays are 100,000 small objects that all stay: looking for garbage among them is a quarter of the time.
    gc.disable()
    try:
        from regraft.formats.listing import as_table, as_text
        from regraft.reading import open_checkpoint

        opened = open_checkpoint(checkpoint)
        say(as_text(opened) if as_json else as_table(opened))
    finally:
        gc.enable()


def _show_operators(checkpoint: Path) -> None:
    """How often each operator of the network occurs; exit 1 when some have no translation."""
    from regraft.networks.reading import network_of
    from regraft.reading import open_checkpoint

    network = network_of(open_checkpoint(checkpoint))
    width = max(map(len, network.operators), default=0)
    for operator, count in sorted(network.operators.items(), key=lambda entry: (-entry[1], entry[0])):
        say(f"{operator:<{width}}  {count}")
    for entry in network.untranslated:
        say(f"no translation: {entry}")
    if network.untranslated:
        sys.exit(1)


def code(checkpoint: Path, *, classes: int | None, layer: str, chain: str | None) -> None:
    """The network of a checkpoint as PyTorch source that needs only torch."""
    from regraft.building import planned_network
    from regraft.reading import open_checkpoint

    if layer and classes is None:
        refuse_usage("code", "--layer names what a new head replaces: give --classes as well")
    head = {"classes": classes, "layer": layer} if classes is not None else None
    described = None if chain is None else json_arguments(chain, "--chain", _CHAIN)
    say(planned_network(open_checkpoint(checkpoint), head=head, chain=described).text.rstrip())
