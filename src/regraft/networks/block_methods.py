"""Repeated blocks as methods: one that makes a block's layers and one that calls them, in place of their lines."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from regraft.networks.blocks import NAME, BlockKind, Recipe, find_blocks, recipe_of
from regraft.networks.source import ModuleSource


@dataclass
class Methods:
    """What stands for the lines of blocks.

    texts         the methods
    lines         number of a block's first line → the call that stands for all its lines
    skipped       numbers of the lines that are not written, without that one
    constructors  path of a block's first layer → the call that makes all its layers
    made          paths of the layers that are made so, without that one
    """

    texts: list[str] = field(default_factory=list)
    lines: dict[int, tuple[str, str]] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    constructors: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)


def methods_of(source: ModuleSource) -> Methods:
    """The methods for all blocks that repeat."""
    methods = Methods()
    taken = {path.partition(".")[0] for path in (*source.constructors, *source.tensors, *source.constants)}
    for kind in find_blocks(source):
        recipe = recipe_of(kind, source)
        if recipe is not None:
            method = _method_name(kind, taken)
            taken |= {method, f"add_{method}"}
            methods.texts += [_adding(kind, recipe, method), _calling(kind, method)]
            _place(kind, recipe, method, source, methods)
    return methods


def _method_name(kind: BlockKind, taken: set[str]) -> str:
    stem = re.sub(r"_?\d+", "", kind.blocks[0].name).strip("_").lower() or "block"
    stem = stem if stem.isidentifier() else "block"
    names = [stem, *(f"{stem}_{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")]
    return next(name for name in names if name not in taken and f"add_{name}" not in taken)


def _adding(kind: BlockKind, recipe: Recipe, method: str) -> str:
    types = ["name: str", *(f"{name}: {_type_of(recipe, place)}" for place, name in enumerate(recipe.parameters))]
    lines = [f"def add_{method}(self, {', '.join(types)}) -> None:", f'    """The layers of {_names(kind)}."""']
    lines += [f"    self.add_module({_formatted(layer)}, {call})" for layer, call in recipe.calls.items()]
    return "\n".join(lines)


def _type_of(recipe: Recipe, place: int) -> str:
    values = [row[place] for row in recipe.values.values()]
    if all(value.isdecimal() for value in values):
        return "int"
    return (
        "bool" if {"True", "False"} >= set(values) else "float" if all("." in value for value in values) else "object"
    )


def _calling(kind: BlockKind, method: str) -> str:
    result = "Tensor" if len(kind.outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(kind.outputs))}]"
    inputs = ", ".join(f"{name}: Tensor" for name in kind.inputs)
    lines = [f"def {method}(self, name: str, {inputs}) -> {result}:", f'    """The steps of {_names(kind)}."""']
    pattern = re.compile(rf"\bself\.([\w{NAME}]*{NAME}[\w{NAME}]*)")
    lines += ["    " + pattern.sub(lambda match: f"getattr(self, {_formatted(match[1])})", line) for line in kind.lines]
    *before, last = lines
    if kind.outputs == (last.strip().partition(" = ")[0],):
        return "\n".join([*before, f"    return {last.strip().partition(' = ')[2]}"])
    return "\n".join([*lines, f"    return {', '.join(kind.outputs)}"])


def _formatted(layer: str) -> str:
    return 'f"' + layer.replace(NAME, "{name}") + '"'


def _names(kind: BlockKind) -> str:
    names = [block.name.lstrip("_") for block in kind.blocks]
    listed = ", ".join(names) if len(names) < 6 else f"{', '.join(names[:3])} … {names[-1]}"
    return f"block {listed}" if names[0].isdecimal() else listed


def _place(kind: BlockKind, recipe: Recipe, method: str, source: ModuleSource, methods: Methods) -> None:
    for block in kind.blocks:
        paths = [layer.replace(NAME, block.name) for layer in kind.layers]
        first = min(paths, key=list(source.constructors).index)
        methods.constructors[first] = f"self.add_{method}({', '.join(_arguments(recipe, block.name))})"
        methods.made.update(set(paths) - {first})
        inputs = ", ".join([f'"{block.name}"', *kind.inputs])
        comment = source.statements[block.stop - 1].comment
        methods.lines[block.start] = (f"{', '.join(kind.outputs)} = self.{method}({inputs})", comment)
        methods.skipped.update(range(block.start + 1, block.stop))


def _arguments(recipe: Recipe, name: str) -> Iterator[str]:
    yield f'"{name}"'
    words = ("channels", "inputs", "width", "outputs")
    is_plain = True  # an argument behind one that is named must be named as well
    for parameter, value in zip(recipe.parameters, recipe.values[name], strict=True):
        is_plain = is_plain and parameter.startswith(words)
        yield value if is_plain else f"{parameter}={value}"


def written_lines(source: ModuleSource, methods: Methods) -> Sequence[tuple[str, str]]:
    """(line, shapes in words) of the forward, each block as one call."""
    lines = []
    for index, statement in enumerate(source.statements):
        if index in methods.lines:
            lines.append(methods.lines[index])
        elif index not in methods.skipped and statement.line != f"{statement.text} = {statement.text}":
            lines.append((statement.line, statement.comment))
    return lines
