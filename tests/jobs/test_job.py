"""The job file."""

from typing import get_args, get_type_hints

import pytest

from regraft.caches import precision as caches_precision
from regraft.errors import JobError
from regraft.jobs.job import Job
from regraft.jobs.sections import CacheSection, ExactTable, PartTask, PlanSection, StepsTable, TrainSection
from regraft.learning import eager_step as stepping
from regraft.learning.losses import LOSSES
from regraft.learning.old_keywords import OLD_SOLVERS
from regraft.learning.optimizers import OPTIMIZERS
from regraft.learning.solvers import Exact, Steps
from regraft.matching import plan_reuse
from regraft.tasks.kinds import TASKS

WHOLE = """
[checkpoint]
path = "a.ckpt"
[model]
factory = "net.py:net"
args = {num_classes = 6}
[data]
train = "train/"
[input]
size = 224
mean = 0.5
std = [0.5, 0.5, 0.5]
[train]
epochs = 3
"""


@pytest.fixture
def job_file(tmp_path):
    """A valid job on disk."""
    path = tmp_path / "job.toml"
    path.write_text(WHOLE)
    return path


def test_what_is_not_said_has_the_documented_default(job_file):
    """Only three sections are needed."""
    job = Job.from_file(job_file)
    assert (job.train.epochs, job.train.lr, job.plan.reuse, job.out.folder) == (3, None, ".*", "run")
    assert (job.input.size, job.input.mean, job.input.std) == ((224, 224), (0.5,), (0.5, 0.5, 0.5))


def test_paths_start_from_the_job_files_folder(job_file, tmp_path):
    """Not from where the command was called."""
    assert Job.from_file(job_file).path("a.ckpt") == tmp_path / "a.ckpt"


def test_settings_override_the_file_and_bare_words_are_text(job_file):
    """As on the command line."""
    job = Job.from_file(job_file, ["train.epochs=5", "data.train=photos/", "out.folder='x'"])
    assert (job.train.epochs, job.data.train, job.out.folder) == (5, "photos/", "x")


def test_settings_stand_above_the_jobs_text(job_file):
    """A report that leaves them out tells of another run."""
    source = Job.from_file(job_file, ["train.epochs=5"]).source
    assert source == "# run with --set train.epochs=5\n" + job_file.read_text()


def test_all_problems_are_told_at_once(job_file):
    """Each with its section, key and near names."""
    job_file.write_text('[checkpoint]\npth="a"\n[modl]\n[data]\ntrain="t"\n[train]\nepochs="many"\n[input]\nsiz=3\n')
    with pytest.raises(JobError, match="cannot be run:") as caught:
        Job.from_file(job_file)
    for told in (
        "[checkpoint] path is missing",
        "[checkpoint] has no key 'pth'. Did you mean 'path'?",
        "[model] is missing",
        "there is no section [modl]. Did you mean 'model'?",
        '[train] epochs is "many": expected a whole number of 1 or more',
        "[input] has no key 'siz'. Did you mean 'size'",
    ):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.per_class=-1", r"\[data\] per_class is -1: expected a whole number of 0 or more"),
        ("data.validation=1.5", "validation is 1.5: expected a part below 1, a whole number of examples, or a path"),
        ("train.epochs=0", r"\[train\] epochs is 0"),
        ("train.seed=-1", r"\[train\] seed is -1"),
        ("train.epochs=true", r"\[train\] epochs is true: expected a whole number of 1 or more$"),
        ("data.validation=true", r"run:\n  \[data\] validation is true: expected a number of 0 or more or a text$"),
        (
            "train.lr=true",
            r"run:\n  \[train\] lr is true: expected a number above 0, a list of numbers above 0 or a table, as in \{a",
        ),
    ],
)
def test_numbers_out_of_range_are_refused_when_the_job_is_read(job_file, setting, told):
    """Before anything is opened."""
    with pytest.raises(JobError, match=told):
        Job.from_file(job_file, [setting])


@pytest.mark.parametrize("setting", ["epochs=3", "train.epochs", ".a=3", "train.=3"])
def test_a_setting_of_another_form_is_refused(job_file, setting):
    """With an example of the right one."""
    with pytest.raises(JobError, match=r"is not of the form section.key=value, as in train.steps.epochs=5"):
        Job.from_file(job_file, [setting])


def test_a_file_that_is_no_toml_is_named(job_file):
    """With the line."""
    job_file.write_text("[checkpoint\n")
    with pytest.raises(JobError, match=r"job.toml is not valid TOML: .*line 1"):
        Job.from_file(job_file)


def test_a_missing_file_is_named(tmp_path):
    """With the system's own reason."""
    with pytest.raises(JobError, match=r"none.toml cannot be read: .*No such file"):
        Job.from_file(tmp_path / "none.toml")


def test_the_epochs_of_a_schedule_are_numbers(job_file):
    """TOML's keys are texts; what is no number is told by its place."""
    job = Job.from_file(job_file, ['train.schedule={0 = "head", 2 = ["a", "b"]}'])
    assert job.train.schedule == {0: "head", 2: ["a", "b"]}
    with pytest.raises(
        JobError, match=r"schedule is \{five = .*expected the layers of each epoch.*--set 'train.steps.schedule"
    ):
        Job.from_file(job_file, ['train.schedule={five = "head"}'])


TABLES = WHOLE.replace("[train]", "[train]\nseed = 3\n[train.steps]\nlr = 0.1")


@pytest.mark.parametrize("text", [WHOLE, TABLES], ids=["keys in [train]", "a table"])
@pytest.mark.parametrize("key", ["train.epochs", "train.steps.epochs"])
def test_a_key_of_the_method_is_set_wherever_the_job_has_it(job_file, text, key):
    """In [train] itself, as in older jobs, or in its table."""
    job_file.write_text(text)
    keys = Job.from_file(job_file, [f"{key}=7"]).train.steps_keys
    assert (keys.epochs, keys.lr) == (7, 0.1 if text is TABLES else None)


def test_a_job_names_one_method(job_file):
    """Two tables, or keys beside a table, are told apart from nothing."""
    job_file.write_text(TABLES + "[train.exact]\n")
    with pytest.raises(JobError, match=r"there are \[train.steps\] and \[train.exact\]: expected only one of them"):
        Job.from_file(job_file)
    job_file.write_text(TABLES.replace("seed = 3", 'solver = "steps"\npatience = 3'))
    with pytest.raises(
        JobError, match=r"\[train\] has patience, solver beside \[train.steps\]: expected the keys of one method, in"
    ):
        Job.from_file(job_file)


def test_problems_in_a_table_of_a_method_are_named_with_the_table(job_file):
    """As in any section."""
    job_file.write_text(TABLES.replace("lr = 0.1", 'lr = "fast"\nepohcs = 3\nschedule = {1 = "a"}'))
    with pytest.raises(JobError, match="cannot be run:") as caught:
        Job.from_file(job_file)
    schedule = 'schedule is {1 = "a"}: the schedule has no entry for epoch 0, which names the layers that train first'
    for told in (
        "[train.steps] has no key 'epohcs'. Did you mean 'epochs'?",
        '[train.steps] lr is "fast": expected a number above 0, a list of numbers above 0 or a table, as in {a = 1}',
        f"[train.steps] {schedule}",
    ):
        assert told in str(caught.value)
    job_file.write_text(WHOLE.replace("epochs = 3", "steps = 3"))
    with pytest.raises(JobError, match=r"\[train.steps\] is 3: expected a section with the keys epochs, lr, "):
        Job.from_file(job_file)


WRONG = """
[checkpoint]
path = "a.ckpt"
[model]
factory = "net.py:net"
[plan]
match = "structur"
reuse = "conv("
[freeze]
layers = "a"
upto = "b"
[data]
train = "train/"
validation = 0
[input]
size = "big"
std = 0
[cache]
precision = "int9"
[train]
optimizer = "adamq"
loss = "mse"
solver = "newton"
precision = "float8"
lr = "fast"
epochs = 3
patience = 2
schedule = {1 = "a", 3 = "b("}
"""


def test_each_problem_is_one_line_with_key_value_and_what_is_allowed(job_file):
    """What only later steps would refuse is refused now; no line is pydantic's, and none is doubled."""
    job_file.write_text(WRONG)
    with pytest.raises(JobError, match="cannot be run:") as caught:
        Job.from_file(job_file)
    compiled = "is not a regular expression: missing ), unterminated subpattern at position"
    escape = "Write a literal dot, bracket or plus with a backslash before it."
    schedule = '[train] schedule is {1 = "a", 3 = "b("}'
    assert str(caught.value).splitlines() == [
        f"{job_file} cannot be run:",
        f"""  [plan] reuse is "conv(": the pattern 'conv(' {compiled} 4. {escape}""",
        '  [plan] match is "structur": expected "names" or "structure". Did you mean "structure"?',
        '  [input] size is "big": expected a number of pixels of 1 or more, or [height, width]',
        "  [input] std is 0: every channel is divided by it, so none can be 0",
        '  [cache] precision is "int9": expected "float32", "bfloat16", "float16" or "int8". Did you mean "int8"?',
        '  [train] lr is "fast": expected a number above 0, a list of numbers above 0 or a table, as in {a = 1}',
        '  [train] optimizer is "adamq": expected "sgd", "momentum", "adam" or "adamw". Did you mean "adam"?',
        '  [train] precision is "float8": expected "float32", "bfloat16" or "float16". Did you mean "float32"?',
        f"""  {schedule}: the pattern 'b(' {compiled} 1. {escape}""",
        '  [train] loss is "mse": expected "cross_entropy", "binary_cross_entropy", "mean_squared_error", '
        '"mean_absolute_error", "huber" or a table, as in {a = "cross_entropy"}',
        '  [train] solver is "newton": expected "steps" or "lbfgs"',
        "  [freeze] has layers and upto: expected only one of layers, trainable, upto",
        f"  {schedule}: the schedule has no entry for epoch 0, which names the layers that train first",
        f"  {schedule}: epoch 3 of the schedule is outside the 3 epochs, which are 0 to 2: choose an earlier epoch, or "
        "train for more epochs",
        "  [train] patience waits for a lower validation loss, and [data] validation is 0: expected a part of the data",
    ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["train.solver=lbfgs", "train.schedule={0='a'}"], "has no epochs: leave out schedule"),
        (["train.solver=lbfgs", "train.loss=mean_squared_error"], 'expected loss = "cross_entropy"'),
        (["train.loss=huber", "train.task=multilabel"], 'loss is "huber": expected "binary_cross_entropy"'),
        (["train.task=regression", "train.solver=lbfgs"], "the exact optimum is that of a classification"),
        (["data.validation=0", "train.lr=[0.1, 0.2]"], "several lr or weight_decay are compared"),
        (["train.lr=[]"], "lr is .*: expected a number above 0, a list of numbers above 0 or a table, as in {a = 1}"),
        (["train.schedule={0=[]}"], "epoch 0 of the schedule: the list of layers is empty"),
        (["train.exact={}", "train.loss=mean_squared_error"], r"\[train.exact\] is given and loss is"),
        (["data.validation=0", "train.exact.weight_decay=[0.1, 0.2]"], r"\[train.exact\] several"),
        (
            ["input.size=[1, 2, 3]"],
            r"size is \[1, 2, 3\]: expected a number of pixels of 1 or more, or \[height, width\]",
        ),
        (["input.mean=[1, 2]"], r"run:\n  \[input\] mean has 2 values: expected 1 or 3, one for each channel$"),
        (["model.factory=3"], r"\[model\] factory is 3: expected a text"),
        (["plan.rename={'(' = 'a'}"], "rename is .*is not a regular expression"),
    ],
)
def test_keys_that_contradict_each_other_are_told(job_file, settings, told):
    """Before anything is opened."""
    with pytest.raises(JobError, match=told):
        Job.from_file(job_file, settings)


@pytest.mark.parametrize("setting", ["freeze=3", "input=3", "train=3"])
def test_a_section_that_is_none_is_told(job_file, setting):
    """A value where a table is expected, in the file and under --set."""
    job_file.write_text(f"{setting}\n" + WHOLE.replace("[input]", "[x]").replace("[train]", "[y]"))
    section = setting.partition("=")[0]
    with pytest.raises(JobError, match=rf"\[{section}\] is 3: expected a section with"):
        Job.from_file(job_file)
    with pytest.raises(JobError, match=f"in the job, {section} is 3 and no section"):
        Job.from_file(job_file, [f"{section}.key=1"])


def test_a_job_names_what_the_steps_know():
    """The job tells wrong words before the steps could; both have the same ones."""
    train, cache, plan = map(get_type_hints, (TrainSection, CacheSection, PlanSection))
    assert get_args(get_args(train["optimizer"])[0]) == tuple(OPTIMIZERS)
    assert get_args(get_args(train["solver"])[0]) == OLD_SOLVERS
    assert StepsTable.__dataclass_fields__.keys() <= Steps.__dataclass_fields__.keys() - {"traced", "order"}
    assert ExactTable.__dataclass_fields__.keys() == Exact.__dataclass_fields__.keys() - {"group"}
    assert set(get_args(get_args(train["loss"])[0])) <= set(LOSSES)
    assert set(get_args(get_args(train["task"])[0])) <= set(TASKS)
    assert set(get_args(PartTask)) <= set(TASKS)
    assert get_args(get_args(train["precision"])[0]) == tuple(stepping.PRECISIONS)
    assert get_args(cache["precision"]) == caches_precision.PRECISIONS
    assert plan["match"] == get_type_hints(plan_reuse)["match"]


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "1" * 5000, "\x00"])
def test_hostile_text_is_not_valid_toml(tmp_path, text):
    """Neither depth nor digits end in another error."""
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises(JobError, match="is not valid TOML"):
        Job.from_file(tmp_path / "job.toml")


def test_a_path_with_a_null_character_is_refused(job_file):
    """The system would, in words of its own."""
    with pytest.raises(JobError, match="null character"):
        Job.from_file(job_file).path("a\0b")


def test_a_seed_beyond_a_generators_is_refused(job_file):
    """As the other ranges, when the job is read."""
    with pytest.raises(JobError, match=r"\[train\] seed is 9{30}: expected a whole number of 0 or more and below"):
        Job.from_file(job_file, ["train.seed=" + "9" * 30])
