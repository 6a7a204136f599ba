"""The statements of a network → a Python file that needs only torch."""

import inspect
import re
from collections.abc import Iterator, Sequence
from textwrap import fill, indent

from regraft.networks.block_methods import Methods, methods_of, written_lines
from regraft.networks.names import expression
from regraft.networks.operators import python
from regraft.networks.runtime_functions import HELPERS
from regraft.networks.source import ModuleSource, container_text, is_list

WIDTH = 120


def write_source(source: ModuleSource, title: str, *, class_name: str = "Net") -> str:
    """The file: what it is, the functions that torch lacks, and the class.

    title  a sentence on where the network comes from
    """
    methods = methods_of(source)
    parts = ["\n".join(_constructor(source, methods)), "\n".join(_forward(source, methods)), *methods.texts]
    body = "\n\n".join(parts)
    texts = [
        f'"""{_docstring(source, title)}\n"""',
        "\n".join(_imports(body)),
        *(inspect.getsource(HELPERS[name]).rstrip() for name in used_helpers(body)),
        f"class {class_name}(nn.Module):\n" + indent(body, "    "),
    ]
    return "\n\n".join(texts[:2]) + "\n\n\n" + "\n\n\n".join(texts[2:]) + "\n"


def used_helpers(text: str) -> list[str]:
    """The functions and classes of `runtime` that a text needs, in their order there."""
    used: set[str] = set()
    texts = [text]
    while texts:
        words = set(re.findall(r"\w+", texts.pop()))
        new = [name for name in HELPERS if name in words and name not in used]
        used.update(new)
        texts += [inspect.getsource(HELPERS[name]) for name in new]
    return [name for name in HELPERS if name in used]


def _imports(body: str) -> list[str]:
    helpers = "".join(inspect.getsource(HELPERS[name]) for name in used_helpers(body))
    lines = ["import math"] if "math." in body else []
    lines += ["from collections.abc import Sequence"] if "Sequence[" in helpers else []
    lines += ["from typing import Any"] if "Any" in helpers else []
    lines += [""] if lines else []
    return [*lines, "import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"]


def _docstring(source: ModuleSource, title: str) -> str:
    lines = [_escaped(title), ""]
    lines += [f"Input   {name} {shape} {dtype}" for name, shape, dtype in source.inputs]
    lines += [f"Output  {shape}" for shape in source.shapes]
    for note in source.notes:
        lines += ["", fill(_escaped(note), WIDTH)]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")


def _constructor(source: ModuleSource, methods: Methods) -> Iterator[str]:
    yield "def __init__(self) -> None:"
    yield "    super().__init__()"
    lists = [path for path, names in source.children.items() if path and is_list(names)]
    made: set[str] = set()
    for path, text in source.constructors.items():
        if path not in made and path not in methods.made:
            yield from _containers_above(path, source, lists, made)
            yield "    " + (methods.constructors.get(path) or _placed(path, text, lists))
            made.add(path)
    for path, (_, shape, dtype, is_trained) in source.tensors.items():
        home, _, leaf = path.rpartition(".")
        owner = expression(home, lists) if home else "self"
        yield from _containers_above(path, source, lists, made)
        yield (
            f"    {owner}.{leaf} = nn.Parameter(torch.zeros({python(shape)}))"
            if is_trained
            else (f'    {owner}.register_buffer("{leaf}", torch.zeros({python(shape)}{_dtype(dtype)}))')
        )
    for path, text in source.constants.items():
        yield f'    self.register_buffer("{path}", {text}, persistent=False)'


def _containers_above(path: str, source: ModuleSource, lists: Sequence[str], made: set[str]) -> Iterator[str]:
    """The modules that hold a path, plain ones and layers; `made` are those that were written."""
    for parent in _parents(path):
        if parent not in made:
            text = source.constructors.get(parent) or container_text(parent, source.children)
            yield "    " + _placed(parent, text, lists)
            made.add(parent)


def _dtype(dtype: str) -> str:
    return "" if dtype == "float32" else f", dtype=torch.{dtype}"


def _parents(path: str) -> Iterator[str]:
    parts = path.split(".")
    yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _placed(path: str, text: str, lists: Sequence[str]) -> str:
    """The statement that puts a module under its path."""
    home = path.rpartition(".")[0]
    if home in lists:
        return f"{expression(home, lists)}.append({text})"
    return f"{expression(path, lists)} = {text}"


def _forward(source: ModuleSource, methods: Methods) -> Iterator[str]:
    kinds = ", ".join(f"{name}: Tensor" for name, _, _ in source.inputs)
    result = "Tensor" if len(source.outputs) == 1 else f"tuple[{', '.join(['Tensor'] * len(source.outputs))}]"
    yield f"def forward(self, {kinds}) -> {result}:"
    lines = written_lines(source, methods)
    if any("device=device" in line for line, _ in lines):
        yield f"    device = {source.inputs[0][0]}.device"
    before = ""
    for text, shape in lines:
        line = indent(text, "    ")
        yield f"{line}  # {shape}" if shape != before and len(line) + len(shape) + 4 < WIDTH - 4 else line
        before = shape
    yield f"    return {', '.join(source.outputs)}"
