"""The modules that lie beside a factory's file and that it imports, directly or through each other."""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path

from regraft.files import sha256_of

_loaded: dict[Path, str] = {}  # neighbour's file → its SHA-256 when it was imported here


def neighbours_of(path: Path) -> dict[str, Path]:
    """Module name → file, for each module in the folder of `path` that running `path` imports, itself left out.

    Found by reading the import statements, wherever they stand in the files. Modules of Python's own library are never
    neighbours: Python has most of them already when the file runs.
    """
    found: dict[str, Path] = {}
    unread = [("", path)]
    while unread:
        package, file = unread.pop()
        for name in _imported(file, package):
            for module, source in _files_of(path.parent, name).items():
                if module not in found and source != path:
                    found[module] = source
                    unread.append((module if source.name == "__init__.py" else module.rpartition(".")[0], source))
    return dict(sorted(found.items()))


@contextmanager
def importable(path: Path) -> Iterator[None]:
    """Let the file import its neighbours, and these alone, under their names.

    Another module of the same name (of another run's folder, say) is set aside meanwhile; a neighbour that was edited
    since it was imported is imported anew.
    """
    neighbours = neighbours_of(path)
    aside = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in _tops(neighbours)}
    current = {file: sha256_of(file) for file in neighbours.values()}
    others = {
        name: module
        for name, module in aside.items()
        if name not in neighbours or getattr(module, "__file__", None) != str(neighbours[name])
    }
    edited = any(_loaded.get(file, digest) != digest for file, digest in current.items())
    if others or edited:
        for name in aside:
            del sys.modules[name]
    invalidate_caches()
    sys.path.insert(0, str(path.parent))
    try:
        yield
        _loaded.update(current)
    finally:
        sys.path.remove(str(path.parent))
        if others:
            for name in [name for name in sys.modules if name.partition(".")[0] in _tops(neighbours)]:
                del sys.modules[name]
            sys.modules.update(aside)


def _tops(names: dict[str, Path]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _imported(file: Path, package: str) -> set[str]:
    """The whole names of what a file imports; of `from a import b` both a and a.b, for b may be a module."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return set()  # running it will say what is wrong
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = _home(node, package)
            names.update([home, *(f"{home}.{alias.name}".lstrip(".") for alias in node.names)])
    return {name for name in names if name and name.partition(".")[0] not in sys.stdlib_module_names}


def _home(node: ast.ImportFrom, package: str) -> str:
    """The whole name of the module from which is imported: `from ..b import c` in a.x.y is from a.b."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *filter(None, [node.module])]).strip(".")


def _files_of(folder: Path, name: str) -> dict[str, Path]:
    """The files in the folder that importing this name runs: of a.b.c the packages a and a.b, and the module."""
    files: dict[str, Path] = {}
    module = ""
    for part in name.split("."):
        module = f"{module}.{part}".lstrip(".")
        package, plain = folder / part / "__init__.py", folder / f"{part}.py"
        if package.is_file():
            files[module] = package
        elif plain.is_file():
            files[module] = plain
            break
        elif not (folder / part).is_dir():
            break
        folder = folder / part
    return files
