"""The shape of the project: order, file sizes, names. See ARCHITECTURE.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "regraft"
MODULES = sorted(SOURCE.rglob("*.py"))
# The one rule: a module may know the types and the functions of those before it, and of its own folder.
ORDER = [
    "errors", "foundation", "arrays", "operations", "tensors", "labels",
    "sources", "examples", "tasks", "tf_layers", "containers", "formats", "reading", "plans", "plan", "matching",
    "loading", "networks", "building", "runtimes", "verifying", "verifying_runtime", "cuts", "freezing", "splitting",
    "inputs", "contracts", "datasets", "stores", "caches", "caching", "learning", "training", "evaluating",
    "collecting", "protocols", "depths", "layer_heads", "advising", "jobs",
    "model_record", "saving", "exports", "exporting", "answers", "predicting", "scoring_runs", "reports", "reporting",
    "comparing", "sklearn", "testing", "recipe", "filling", "demo", "cli", "__main__",
]  # fmt: skip
PUBLIC_NAMES = [
    "open_checkpoint", "plan_reuse", "apply_plan", "build_model", "verify", "verify_with_runtime", "advise",
    "head_on_layers", "freeze", "unfreeze", "parameter_groups", "split", "cache_features", "fill_features", "train",
    "Steps", "Exact", "WeightedLoss", "evaluate", "predictions", "cross_validate", "learning_curve", "save", "load",
    "write_report", "reuse", "predict", "Plan", "Features", "History", "Score", "RegraftError",
]  # fmt: skip


def name_of(path: Path) -> str:
    """formats/npz.py → formats.npz"""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def place_of(module: str) -> int:
    """The place in ORDER of a module named without the package."""
    return ORDER.index(module.split(".")[0])


def imports_of(path: Path) -> set[str]:
    """The modules of regraft that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regraft"):
            home = (node.module or "").removeprefix("regraft").lstrip(".")
            inner = [f"{home}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if (SOURCE / (name.replace(".", "/") + ".py")).is_file() else home for name in inner}
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("regraft.") for alias in node.names if alias.name.startswith("regraft.")}
    return found - {""}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_stands_before_it(path):
    """Reading < matching < loading < freezing < splitting < caching < training < … < recipe."""
    module = name_of(path)
    if module == "__init__":
        return
    later = [other for other in imports_of(path) if place_of(other) > place_of(module)]
    assert not later, f"{module} imports what stands after it: {later}"


def test_every_module_has_its_place():
    """ORDER lists what there is, each once."""
    assert sorted(ORDER) == sorted({name_of(path).split(".")[0] for path in MODULES} - {"__init__"})


def test_the_page_on_the_architecture_names_every_step():
    """A stranger finds each file and folder of the root in its table."""
    page = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert not [name for name in ORDER if not name.startswith("_") and f"`{name}" not in page]


def test_no_file_is_longer_than_a_person_reads():
    """400 lines a file."""
    long = {name_of(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_every_file_has_a_subject():
    """A file without a subject has no end."""
    without = [name_of(path) for path in MODULES if path.stem in {"utils", "helpers", "common", "misc"}]
    assert not without


def test_every_file_says_in_its_first_line_what_it_gives():
    """A stranger reads the first line and knows whether to go on."""
    silent = [name_of(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_every_file_has_its_tests():
    """tests/ mirrors the source."""
    tests = Path(__file__).parent
    missing = [
        name_of(path)
        for path in MODULES
        if not path.stem.startswith("__")
        and not (tests / path.relative_to(SOURCE).parent / f"test_{path.stem}.py").is_file()
    ]
    assert not missing


def test_the_public_names_are_these():
    """In order of use; one more or less is a decision, not an accident."""
    import regraft

    assert regraft.__all__ == PUBLIC_NAMES
    assert all(callable(getattr(regraft, name)) for name in PUBLIC_NAMES)
    assert dir(regraft) == sorted([*PUBLIC_NAMES, "__version__"])  # what a notebook completes


def test_show_needs_no_torch():
    """Opening a checkpoint imports neither torch nor any foreign framework."""
    code = "import sys, regraft.cli, regraft.reading, regraft.formats.listing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_product_names_no_foreign_framework_at_import():
    """Optional libraries are imported inside the function that needs them."""
    optional = {"h5py", "onnx", "msgpack", "tensorstore", "gguf", "flatbuffers", "timm", "torchvision", "sklearn",
                "jinja2", "matplotlib", "fsspec", "pyarrow", "ray", "tensorflow", "keras", "jax",
                "datasets", "webdataset", "transformers", "peft"}  # fmt: skip
    early = {
        name_of(path): node.lineno
        for path in MODULES
        if name_of(path) != "sklearn"  # a bridge to its library, which no other module imports
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.split(".")[0] in optional
    }
    assert not early
