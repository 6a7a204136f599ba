"""Repeated blocks in the lines of a network: the same lines on other layers, whose names differ in one part."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from regraft.networks.source import ModuleSource, Statement

FEWEST_LINES, FEWEST_BLOCKS = 3, 2
NAME = "\0"  # stands for the part of a layer's name by which one block differs from the next
_PREFIX = re.compile(r"\d+[a-z]?(?=[_.]|$)")  # a number, or one with a letter as in block2a
_LAYER = re.compile(r"\bself\.(\w+)")


@dataclass(frozen=True)
class Block:
    """One occurrence of a block.

    name   the part of its layers' names that is its own: "conv2_block1"
    start  its first line, `stop` the one behind its last
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Run:
    """Neighbouring layers of one name, and how far the steps reach that may belong to them."""

    core: Block
    start: int
    stop: int


@dataclass(frozen=True)
class BlockKind:
    """Blocks of the same lines.

    lines    with NAME in the names of layers
    layers   the layers' names, with NAME
    inputs   the variables that the lines read first, outputs those that are read behind them
    """

    blocks: tuple[Block, ...]
    lines: tuple[str, ...]
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def worth(self) -> float:
        """Lines that need not be written; those of a long block count for more."""
        return (len(self.blocks) - 1) * len(self.lines) ** 2 / (len(self.lines) + FEWEST_LINES)


def find_blocks(source: ModuleSource) -> list[BlockKind]:
    """The kinds of blocks that save most lines, no two of which overlap."""
    statements = source.statements
    kinds: list[BlockKind] = []
    for runs in _candidates(source):
        groups: dict[tuple[tuple[str, ...], ...], list[_Run]] = defaultdict(list)
        for run in runs:
            layers = _layers(statements, run.core)
            made = [source.constructors[layer.replace(NAME, run.core.name)].partition("(")[0] for layer in layers]
            groups[_lines(statements, run.core), layers, tuple(made)].append(run)
        for (_, layers, _), members in groups.items():
            blocks = _with_common_steps(statements, members)
            lines = _lines(statements, blocks[0])
            if len(blocks) >= FEWEST_BLOCKS and len(lines) >= FEWEST_LINES and all(map(_is_pure, lines)):
                kinds.append(_kind(source, blocks, lines, layers))
    return _without_overlaps([kind for kind in kinds if kind.outputs and recipe_of(kind, source)])


def _with_common_steps(statements: Sequence[Statement], runs: Sequence[_Run]) -> list[Block]:
    """The blocks with the steps before and behind their layers that all of them have."""
    heads = [_lines(statements, Block(run.core.name, run.start, run.core.start)) for run in runs]
    tails = [_lines(statements, Block(run.core.name, run.core.stop, run.stop)) for run in runs]
    head, tail = _common([lines[::-1] for lines in heads]), _common(tails)
    return [replace(run.core, start=run.core.start - head, stop=run.core.stop + tail) for run in runs]


def _common(sequences: Sequence[tuple[str, ...]]) -> int:
    """How many lines all begin with."""
    differing = (number for number, lines in enumerate(zip(*sequences, strict=False)) if len(set(lines)) > 1)
    return next(differing, min(map(len, sequences)))


def _candidates(source: ModuleSource) -> Iterator[list[_Run]]:
    """Runs of lines whose layers share a name up to a number, for each place of the number; and a number alone."""
    statements = source.statements
    uses = Counter(statement.layer for statement in statements if statement.layer)
    free = {layer for layer, count in uses.items() if count == 1 and "." not in layer and layer not in source.children}
    paths = [statement.layer if statement.layer in free else "" for statement in statements]
    names = [[path[: match.end()] for match in _PREFIX.finditer(path)] for path in paths]
    for depth in range(max(map(len, names), default=0)):
        yield _runs(statements, [own[depth] if depth < len(own) else "" for own in names])
    yield _runs(statements, [_numbers(path) for path in paths])


def _numbers(path: str) -> str:
    """The only number in a name, with the underscore before it; "" where there are several, or none."""
    found = re.findall(r"_\d+(?=_|$)", path)
    return found[0] if len(found) == 1 and len(re.findall(r"\d+", path)) == 1 else ""


def _runs(statements: Sequence[Statement], names: Sequence[str]) -> list[_Run]:
    """Blocks of neighbouring layers of one name; steps belong to the layers before them, paddings to those behind."""
    blocks: list[Block] = []
    for index, statement in enumerate(statements):
        if not statement.layer:
            continue
        if blocks and blocks[-1].name == names[index]:
            blocks[-1] = replace(blocks[-1], stop=index + 1)
        else:
            blocks.append(Block(names[index], index, index + 1))
    ends = [*(block.start for block in blocks[1:]), len(statements)] if blocks else []
    stops = [_before_padding(statements, block.stop, end) for block, end in zip(blocks, ends, strict=True)]
    runs = [_Run(block, start, stop) for block, start, stop in zip(blocks, [0, *stops], stops, strict=False)]
    counts = Counter(block.name for block in blocks)
    return [run for run in runs if run.core.name and counts[run.core.name] == 1]


def _before_padding(statements: Sequence[Statement], start: int, stop: int) -> int:
    """Where the paddings begin that end these steps."""
    while stop > start and statements[stop - 1].text.startswith("F.pad("):
        stop -= 1
    return stop


def _lines(statements: Sequence[Statement], block: Block) -> tuple[str, ...]:
    return tuple(named(statement.line, block.name) for statement in statements[block.start : block.stop])


def _layers(statements: Sequence[Statement], block: Block) -> tuple[str, ...]:
    layers = [statement.layer for statement in statements[block.start : block.stop] if statement.layer]
    return tuple(named(f"self.{layer}", block.name).removeprefix("self.") for layer in layers)


def named(text: str, name: str) -> str:
    """The text with NAME in the layers' names in place of the block's own part."""

    def put(match: re.Match[str]) -> str:
        own = match[1]
        if name.startswith("_"):
            return "self." + re.sub(re.escape(name) + r"(?=_|$)", NAME, own)
        return "self." + (NAME + own[len(name) :] if re.match(re.escape(name) + r"(_|$)", own) else own)

    return _LAYER.sub(put, text)


def _is_pure(line: str) -> bool:
    """Whether a statement is one line without the device, and all that it uses of the module belongs to the block."""
    return (
        "\n" not in line
        and "device=device" not in line
        and all(NAME in match for match in re.findall(rf"\bself\.([\w{NAME}]+)", line))
    )


def _kind(source: ModuleSource, blocks: Sequence[Block], lines: tuple[str, ...], layers: tuple[str, ...]) -> BlockKind:
    """The kind with the variables that go in and come out. Of a block whose lines give nothing: no outputs."""
    used = [variables(statement) for statement in source.statements]
    first = blocks[0]
    written: set[str] = set()
    inputs: list[str] = []
    for reads, writes in used[first.start : first.stop]:
        inputs += [name for name in reads if name not in written and name not in inputs]
        written.update(writes)
    outputs = {name for block in blocks for name in written if _is_read(name, used[block.stop :], source.outputs)}
    return BlockKind(tuple(blocks), lines, layers, tuple(inputs), tuple(sorted(outputs)))


def variables(statement: Statement) -> tuple[list[str], list[str]]:
    """The variables that a line reads, and those that it sets."""
    tree = ast.parse(statement.line)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in ("self", "F", "torch")]
    reads = [node.id for node in names if isinstance(node.ctx, ast.Load)]
    return reads, [node.id for node in names if isinstance(node.ctx, ast.Store)]


def _is_read(name: str, after: Sequence[tuple[list[str], list[str]]], outputs: Sequence[str]) -> bool:
    """Whether the value of a variable is read before it is set again."""
    for reads, writes in after:
        if name in reads:
            return True
        if name in writes:
            return False
    return any(re.search(rf"\b{name}\b", output) for output in outputs)


def _without_overlaps(kinds: Sequence[BlockKind]) -> list[BlockKind]:
    """The kinds that save most; a block that overlaps one of these is left as lines."""
    taken: set[int] = set()
    chosen: list[BlockKind] = []
    for kind in sorted(kinds, key=lambda kind: -kind.worth):
        free = [block for block in kind.blocks if taken.isdisjoint(range(block.start, block.stop))]
        if len(free) >= FEWEST_BLOCKS:
            chosen.append(replace(kind, blocks=tuple(free)))
            taken.update(index for block in free for index in range(block.start, block.stop))
    return chosen


# --- the constructors of a kind's layers ------------------------------------------------------------------------------

_DEFAULTS = {"stride": "1", "padding": "0", "dilation": "1", "groups": "1", "bias": "True"}
Constructor = tuple[str, list[str], dict[str, str]]  # class, arguments by position and by name
Slot = tuple[str, int | str]  # layer, and the argument's position or name


@dataclass(frozen=True)
class Recipe:
    """How the layers of a kind are made.

    calls       layer, with NAME → (class, arguments with the parameters' names)
    parameters  the names of what differs
    values      block's name → the values of the parameters
    """

    calls: Mapping[str, str]
    parameters: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]


def recipe_of(kind: BlockKind, source: ModuleSource) -> Recipe | None:
    """The constructors of the kind's layers, what differs as parameters; None where more than arguments differs."""
    made = [_calls(kind, block, source) for block in kind.blocks]
    slots: dict[Slot, tuple[str, ...]] = {}
    for layer in kind.layers:
        arguments = _arguments([of_block[layer] for of_block in made])
        if arguments is None:
            return None
        slots |= {(layer, place): values for place, values in arguments.items()}
    names = _parameter_names(kind, slots)
    calls_text = {layer: _call_text(layer, made[0][layer][0], slots, names) for layer in kind.layers}
    columns = {name: values for values, name in names.items()}
    rows = {b.name: tuple(values[place] for values in columns.values()) for place, b in enumerate(kind.blocks)}
    return Recipe(calls_text, tuple(columns), rows)


def _arguments(calls: Sequence[Constructor]) -> dict[int | str, tuple[str, ...]] | None:
    """Position or name of an argument → its value in each call; None where classes or arguments differ."""
    if len({(kind, len(positional)) for kind, positional, _ in calls}) > 1:
        return None
    keys = dict.fromkeys(key for _, _, named_arguments in calls for key in named_arguments)
    if any(key not in given and key not in _DEFAULTS for key in keys for _, _, given in calls):
        return None
    values: dict[int | str, tuple[str, ...]] = {
        place: tuple(positional[place] for _, positional, _ in calls) for place in range(len(calls[0][1]))
    }
    return values | {key: tuple(given.get(key, _DEFAULTS.get(key, "")) for _, _, given in calls) for key in keys}


def _calls(kind: BlockKind, block: Block, source: ModuleSource) -> dict[str, Constructor]:
    calls = {}
    for layer in kind.layers:
        tree = ast.parse(source.constructors[layer.replace(NAME, block.name)], mode="eval").body
        assert isinstance(tree, ast.Call)
        named_arguments = {str(keyword.arg): ast.unparse(keyword.value) for keyword in tree.keywords}
        calls[layer] = (ast.unparse(tree.func), [ast.unparse(value) for value in tree.args], named_arguments)
    return calls


def _parameter_names(kind: BlockKind, slots: Mapping[Slot, tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Values over the blocks → the parameter's name; equal values are one parameter."""
    differing = [(slot, values) for slot, values in slots.items() if len(set(values)) > 1]
    first, last = kind.layers[0], next((layer for layer in reversed(kind.layers) if (layer, 1) in slots), "")
    names: dict[tuple[str, ...], str] = {}
    for (_, place), values in differing:
        if values not in names:
            ends = slots.get((first, 0)) == values, slots.get((last, 1)) == values
            word = {(True, True): "channels", (True, False): "inputs", (False, True): "outputs"}.get(ends)
            word = word or {0: "width", 1: "width", 2: "kernel", "groups": "width"}.get(place, str(place))
            taken = set(names.values())
            names[values] = next(w for w in (word, *(f"{word}_{n}" for n in range(2, 99))) if w not in taken)
    return names


def _call_text(
    layer: str, kind: str, slots: Mapping[Slot, tuple[str, ...]], names: Mapping[tuple[str, ...], str]
) -> str:
    parts = []
    for (owner, place), values in slots.items():
        if owner != layer:
            continue
        text = names.get(values, values[0])
        parts.append(text if isinstance(place, int) else f"{place}={text}")
    return f"{kind}({', '.join(parts)})"
