"""Advice is data; each door prints it as its reader types it."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from regraft.cli.program import parser
from regraft.errors import Advice, PlanError
from regraft.jobs.advice import OPTIONS, SECTIONS, spelled, spelled_for
from regraft.jobs.job import Job
from regraft.jobs.sections import TABLES
from regraft.learning.solvers import Exact, Steps

ADVICE = [
    ("fresh", ["head"], "--fresh head", '[plan] fresh = ["head"]'),
    ("fresh", ["hidden[12]", "out"], "--fresh 'hidden[12]' --fresh out", '[plan] fresh = ["hidden[12]", "out"]'),
    ("rename", {r"dnn/(.*)": r"\1"}, r"--rename 'dnn/(.*)=\1'", "[plan] rename = {\"dnn/(.*)\" = '\\1'}"),
    ("rename", {"(.*)": ["a", "b"]}, "--rename '(.*)=a' --rename '(.*)=b'", '[plan] rename = {"(.*)" = ["a", "b"]}'),
    ("adapt", {"conv1": "sum"}, "--adapt conv1=sum", '[plan] adapt = {conv1 = "sum"}'),
    ("adopt", r"bn1\.eps", r"--adopt 'bn1\.eps'", r"[plan] adopt = 'bn1\.eps'"),
    ("layout", "tensorflow", "--layout tensorflow", '[plan] layout = "tensorflow"'),
    ("ema", True, "--ema", "[plan] ema = true"),
    ("ema", False, None, "[plan] ema = false"),
    ("loss", "mean_squared_error", None, '[train] loss = "mean_squared_error"'),
    ("schedule", {0: "head", 5: ["a", "b"]}, None, '[train.steps] schedule = {0 = "head", 5 = ["a", "b"]}'),
    ("views", 4, None, "[cache] views = 4"),
    ("overwrite", True, "--overwrite", "[out] overwrite = true, or pass --overwrite,"),
    ("skip_unreadable", True, "--skip-unreadable", "[data] skip_unreadable = true, or pass --skip-unreadable,"),
    ("data_id", "photos", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("argument", "value", "options", "job"), ADVICE)
def test_an_argument_is_spelled_for_each_door(argument, value, options, job):
    """What a door does not have is left out."""
    advice = Advice(argument, value, "go on")
    assert spelled(advice, "python") == str(advice)
    assert spelled(advice, "command line") == (f"Pass {options} to go on." if options else "")
    assert spelled(advice, "job") == (f"Set {job} to go on." if job else "")


@pytest.mark.parametrize(("argument", "value", "job"), [(row[0], row[1], row[3]) for row in ADVICE if row[3]])
def test_what_a_job_is_told_is_toml(argument, value, job):
    """It may be pasted, and means the value."""
    section, _, line = job.partition(",")[0].partition(" ") if "--" in job else job.partition(" ")
    written = tomllib.loads(f"{section}\n{line}")
    for key in [*section.strip("[]").split("."), argument]:
        written = written[key]
    assert written == ({str(key): part for key, part in value.items()} if isinstance(value, dict) else value)


def test_a_solver_is_a_table_of_a_job():
    """Its class names the table."""
    advice = Advice("solver", Steps(), "train by gradient steps")
    assert str(advice) == "Pass solver=Steps() to train by gradient steps."
    assert spelled(advice, "job") == "Write [train.steps] to train by gradient steps."
    assert set(TABLES) == {solver.__name__.lower() for solver in (Steps, Exact)}


def test_each_section_of_the_table_has_its_arguments():
    """A key that is renamed in the job is renamed in the advice."""
    homes = {name: entry.type for name, entry in Job.__dataclass_fields__.items()}
    homes |= {f"train.{name}": table for name, table in TABLES.items()}
    for section, arguments in SECTIONS.items():
        assert set(arguments) <= set(homes[section].__dataclass_fields__)


def test_each_option_of_the_table_is_one_of_a_command():
    """An option that is renamed on the command line is renamed in the advice."""
    commands = parser()._subparsers._group_actions[0].choices
    known = {option for name in ("plan", "reuse", "predict") for option in commands[name]._option_string_actions}
    assert set(OPTIONS.values()) <= known
    assert shlex.split(spelled(Advice("fresh", ["a b"], "x"), "command line"))[1:3] == ["--fresh", "a b"]


def test_errors_that_leave_the_block_are_spelled():
    """The same error object, with the same text: a user's own text may contain layout="nhwc"."""
    error = PlanError("Your factory says layout=None.", advice=[Advice("layout", "flax", "read them as Flax does")])
    with pytest.raises(PlanError, match="factory says layout=None") as caught, spelled_for("command line"):
        raise error
    assert caught.value is error
    assert str(error) == "Your factory says layout=None.\nPass --layout flax to read them as Flax does."


def test_every_argument_that_an_error_advises_is_known_to_a_door():
    """Read from the source: an argument that no door spells would be left out everywhere but in Python."""
    source = Path(__file__).resolve().parents[2] / "src" / "regraft"
    advised = {
        argument
        for file in source.rglob("*.py")
        for argument in re.findall(r'Advice\(\s*"([a-z_]+)"', file.read_text(encoding="utf-8"))
    }
    assert len(advised) > 10
    assert advised - {"solver", "pad", "classes", "head", "resume", "group", "data_id"} <= {
        argument for arguments in SECTIONS.values() for argument in arguments
    }
