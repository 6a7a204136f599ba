"""The modules that lie beside a factory's file and that it imports, directly or through each other."""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path
from types import ModuleType

from regraft.foundation.files import sha256_of

_digests: dict[Path, str] = {}  # neighbour's file → its SHA-256 when it was imported here


def neighbours_of(path: Path) -> dict[str, Path]:
    """Module name → file, for each module in the folder of `path` that running `path` imports, itself left out.

    Found by reading the import statements, wherever they stand in the files. Modules of Python's own library are never
    neighbours: Python has most of them already when the file runs.
    """
    neighbours: dict[str, Path] = {}
    unread = [("", path)]
    while unread:
        package, file = unread.pop()
        for name in _imported(file, package):
            for module, source in _files_of(path.parent, name).items():
                if module not in neighbours and source != path:
                    neighbours[module] = source
                    unread.append((module if source.name == "__init__.py" else module.rpartition(".")[0], source))
    return dict(sorted(neighbours.items()))


@contextmanager
def importable(path: Path) -> Iterator[None]:
    """Let the file import its neighbours, and these alone, under their names.

    Another module of the same name (of another run's folder, say) is set aside meanwhile; a neighbour that was edited
    since it was imported is imported anew.
    """
    neighbours = neighbours_of(path)
    digests = {file: sha256_of(file) for file in neighbours.values()}
    loaded = _loaded_like(neighbours)
    others = any(str(neighbours.get(name)) != getattr(module, "__file__", None) for name, module in loaded.items())
    if others or any(_digests.get(file, digest) != digest for file, digest in digests.items()):
        _forget(loaded)
    invalidate_caches()
    sys.path.insert(0, str(path.parent))
    try:
        yield
        _digests.update(digests)
    finally:
        sys.path.remove(str(path.parent))
        if others:
            _forget(_loaded_like(neighbours))
            sys.modules.update(loaded)


def _loaded_like(neighbours: dict[str, Path]) -> dict[str, ModuleType]:
    """The loaded modules that have the neighbours' names, or lie in packages of these names."""
    tops = {name.partition(".")[0] for name in neighbours}
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in tops}


def _forget(modules: dict[str, ModuleType]) -> None:
    for name in modules:
        del sys.modules[name]


def _imported(file: Path, package: str) -> set[str]:
    """The whole names of what a file imports; of `from a import b` both a and a.b, for b may be a module."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return set()  # running it will say what is wrong
    names = {name for node in ast.walk(tree) for name in _names_in(node, package)}
    return {name for name in names if name and name.partition(".")[0] not in sys.stdlib_module_names}


def _names_in(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        home = _home(node, package)
        return [home, *(f"{home}.{alias.name}".lstrip(".") for alias in node.names)]
    return []


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
