"""The job file."""

import pytest

from regraft.errors import JobError
from regraft.job import Job

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
    with pytest.raises(JobError) as caught:
        Job.from_file(job_file)
    for told in (
        "[checkpoint] path is missing",
        "[checkpoint] has no key 'pth'. Did you mean 'path'?",
        "[model] is missing",
        "there is no section [modl]. Did you mean 'model'?",
        "[train] epochs is 'many'",
        "[input] has no key 'siz'. Did you mean 'size'",
    ):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.per_class=-1", r"\[data\] per_class is -1: input should be greater than or equal to 0"),
        ("data.validation=1.5", "neither a part below 1 nor a whole number of examples"),
        ("train.epochs=0", r"\[train\] epochs is 0"),
        ("train.seed=-1", r"\[train\] seed is -1"),
    ],
)
def test_numbers_out_of_range_are_refused_when_the_job_is_read(job_file, setting, told):
    """Before anything is opened."""
    with pytest.raises(JobError, match=told):
        Job.from_file(job_file, [setting])


@pytest.mark.parametrize("setting", ["epochs=3", "train.epochs", ".a=3", "train.=3"])
def test_a_setting_of_another_form_is_refused(job_file, setting):
    """With an example of the right one."""
    with pytest.raises(JobError, match=r"is not of the form section.key=value, as in train.epochs=5"):
        Job.from_file(job_file, [setting])


def test_a_file_that_is_no_toml_is_named(job_file):
    """With the line."""
    job_file.write_text("[checkpoint\n")
    with pytest.raises(JobError, match=r"job.toml is no valid TOML: .*line 1"):
        Job.from_file(job_file)


def test_a_missing_file_is_named(tmp_path):
    """With the system's own reason."""
    with pytest.raises(JobError, match=r"none.toml cannot be read: .*No such file"):
        Job.from_file(tmp_path / "none.toml")


def test_the_epochs_of_a_schedule_are_numbers(job_file):
    """TOML's keys are texts; what is no number is told by its place."""
    job = Job.from_file(job_file, ['train.schedule={0 = "head", 5 = ["a", "b"]}'])
    assert job.train.schedule == {0: "head", 5: ["a", "b"]}
    with pytest.raises(JobError, match=r"\[train\] schedule is 'five'"):
        Job.from_file(job_file, ['train.schedule={five = "head"}'])
