"""A script or `regraft …` in a process of its own, forked from one that has imported torch: two seconds cheaper each.

What is about the start of Python itself (a closed output, imports that must not happen) is tested by `subprocess`.
"""

import atexit
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*words, cwd=None, env=None, warn=True, output=None):
    """The finished `python WORDS`: a script with its arguments, or -m and a module with its own.

    env     what is set beside the environment of the tests
    warn    False: as by -W ignore
    output  a file for its standard output
    """
    with tempfile.TemporaryDirectory() as folder:
        printed, errors = Path(output or f"{folder}/output"), Path(folder, "errors")
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": {**os.environ, **(env or {})},
            "outputs": [str(printed), str(errors)],
            "warn": warn,
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        texts = ["" if path == output else Path(path).read_text(encoding="utf-8") for path in request["outputs"]]
    return subprocess.CompletedProcess(request["words"], code, *texts)


@cache
def _server():
    """This file as a program; it ends when its standard input does."""
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"},
    )  # fmt: skip
    atexit.register(server.communicate)
    return server


def _next_request():
    """Returns in a forked child, with what it is to do."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    sys.exit()


def _become(request):
    """What Python sets up when it starts with these words."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, path in enumerate([os.devnull, *request["outputs"]]):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    if not request["warn"]:
        warnings.simplefilter("ignore")
    words = request["words"]
    is_module = words[0] == "-m"
    sys.argv = words[1:] if is_module else words
    sys.path[0] = os.getcwd() if is_module else str(Path(words[0]).parent)
    if is_module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")


def _exit_code(work, *given):
    """Of Python when this is all that it does; the error is printed."""
    try:
        work(*given)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    import vision_stub  # noqa: F401  # before torchmetrics imports torchvision

    sys.path[0] = ""  # tests/ has a folder `datasets`, which would hide the library of that name
    for name in ("regraft.cli.program", "regraft.recipe", "torchmetrics", "transformers", "sklearn.model_selection"):
        __import__(name)
    gc.freeze()
    code = _exit_code(_become, _next_request())
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)  # without taking all modules apart, which takes Python as long as a page does
