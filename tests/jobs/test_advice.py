"""Advice is spelled as its reader types it."""

import tomllib

import pytest

from regraft.errors import PlanError
from regraft.jobs.advice import spelled, spelled_for

ADVICE = [
    ('fresh=["head"]', "--fresh head", '[plan] fresh = ["head"]'),
    ('fresh=["hidden[12]", "out"]', "--fresh 'hidden[12]' --fresh out", '[plan] fresh = ["hidden[12]", "out"]'),
    (r'rename={r"dnn/(.*)": r"\1"}', r"--rename 'dnn/(.*)=\1'", "[plan] rename = {\"dnn/(.*)\" = '\\1'}"),
    ('adapt={"conv1": "sum"}', "--adapt conv1=sum", '[plan] adapt = {"conv1" = "sum"}'),
    (r'adopt="bn1\.eps"', r"--adopt 'bn1\.eps'", r"[plan] adopt = 'bn1\.eps'"),
    ('layout="tensorflow"', "--layout tensorflow", '[plan] layout = "tensorflow"'),
    ('match="structure"', "--match structure", '[plan] match = "structure"'),
    ("ema=True", "--ema", "[plan] ema = true"),
    ("layout=…", "--layout '…'", "[plan] layout = …"),
    ("solver='steps'", "solver='steps'", "[train] solver = 'steps'"),
    ('schedule={0: "head", 5: ["a", "b"]}', None, '[train] schedule = {0 = "head", 5 = ["a", "b"]}'),
]  # fmt: skip


@pytest.mark.parametrize(("python", "options", "job"), ADVICE)
def test_an_argument_is_spelled_for_each_reader(python, options, job):
    """In the middle of a sentence, which stays."""
    text = f"Say {python}, or not."
    assert spelled(text, "python") == text
    assert spelled(text, "command line") == f"Say {options or python}, or not."
    assert spelled(text, "job") == f"Say {job}, or not."


@pytest.mark.parametrize("job", [job for _, _, job in ADVICE if "…" not in job])
def test_what_a_job_is_told_is_toml(job):
    """It may be pasted."""
    section, _, line = job.partition(" ")
    assert list(tomllib.loads(f"{section}\n{line}")) == [section.strip("[]")]


@pytest.mark.parametrize("text", ["model.layout=…", "save(folder, overwrite=True)", "refresh=['a']", "fresh=names"])
def test_what_is_no_advice_stays(text):
    """Attributes, arguments of other functions, values that are no examples."""
    assert spelled(text, "job") == spelled(text, "command line") == text


def test_errors_that_leave_the_block_are_spelled():
    """The same error object, of the same class."""
    error = PlanError('Say layout="flax".')
    with pytest.raises(PlanError, match=r"^Say --layout flax\.$") as caught, spelled_for("command line"):
        raise error
    assert caught.value is error
