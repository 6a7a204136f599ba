"""The job that `regraft init` writes."""

import tomllib

import numpy as np
import pytest
from torch import nn

from regraft.errors import DataError, JobError, PatternError
from regraft.jobs.first_job import FirstJob, data_in
from regraft.jobs.job import Job

NETWORK = "\n".join(
    [
        "from torch import nn",
        "def sized(num_classes):",
        "    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_classes))",
        "def fixed():",
        "    return nn.Sequential(nn.Linear(4, 3))",
        "def nameless(classes):",
        "    return nn.Linear(4, classes)",
        "def broken(num_classes):",
        "    raise ValueError('no weights')",
    ]
)


@pytest.fixture
def folder(tmp_path):
    """A network's code and data of three classes."""
    (tmp_path / "net.py").write_text(NETWORK)
    np.savez(tmp_path / "data.npz", x=np.zeros((6, 4), np.float32), y=np.arange(6) % 3, classes=["a$b", 'c"d', "e"])
    return tmp_path


def first_job(folder, **values):
    """The answers so far."""
    classes = data_in(str(folder / "data.npz")).classes
    return FirstJob("data.npz", None, classes, are_images=False, checkpoint="a.npz", **values)


def test_the_text_is_a_job_with_the_answers(folder):
    """Whatever is in the names of classes."""
    job = first_job(folder, rename={"a/(.*)": r"\1"}).with_model("net.py:sized", folder)
    read = Job.from_dict(tomllib.loads(job.text()), folder=folder)
    assert (read.model.factory, dict(read.model.args)) == ("net.py:sized", {"num_classes": 3})
    assert (read.plan.fresh, read.freeze.trainable) == ("2", "2")
    assert read.plan.rename == {"a/(.*)": r"\1"}
    assert (read.data.train, read.data.test, read.input) == ("data.npz", None, None)
    assert '3 outputs: a$b, c"d, e.' in job.text()


def test_images_are_prepared_as_the_models_library_records_it(folder):
    """Else as the network that ships with regraft; the size can be chosen."""
    images = FirstJob("i", "t", ("a", "b"), are_images=True, checkpoint="a.npz")
    own = Job.from_dict(tomllib.loads(images.with_model("net.py:sized", folder).text())).preparation.image
    assert (own.size, own.mean, own.std) == ((224, 224), (0.5,), (0.5,))
    timm = images.with_model("timm:resnet18", folder).with_size("96")
    read = Job.from_dict(tomllib.loads(timm.text()))
    assert (read.preparation.image.size, read.preparation.image.resize, read.data.test) == ((96, 96), "crop", "t")
    assert read.preparation.image.mean == (0.485, 0.456, 0.406)
    assert (read.plan.fresh, read.model.args) == ("fc", {"num_classes": 2})


def test_a_factory_without_a_number_of_classes_gets_no_arguments(folder):
    """A model of one size; a factory's own error is not hidden behind another try."""
    assert first_job(folder).with_model("net.py:fixed", folder).args == {}
    with pytest.raises(JobError, match="no weights"):
        first_job(folder).with_model("net.py:broken", folder)
    with pytest.raises(JobError, match="has no layers with names"):
        first_job(folder).with_model("net.py:nameless", folder)


def test_answers_that_cannot_be_used_are_refused(folder):
    """Each when it is given."""
    job = first_job(folder).with_model("net.py:sized", folder)
    with pytest.raises(PatternError, match="fc9"):
        job.with_trainable("fc9", folder)
    with pytest.raises(JobError, match="'large' is not a number of pixels"):
        job.with_size("large")
    assert job.with_size("6x7").contract.size == (6, 7)
    with pytest.raises(DataError, match="There is nothing at"):
        data_in(str(folder / "none"))


def test_a_folder_of_parts_is_taken_apart(tmp_path):
    """IMAGES/train/CLASS and IMAGES/test/CLASS; without train the classes cannot be known."""
    from PIL import Image

    for part in ("Train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "1.png")
    data = data_in(str(tmp_path))
    assert (data.train, data.test, data.classes) == (tmp_path / "Train", tmp_path / "test", ("cat", "dog"))
    (tmp_path / "Train").rename(tmp_path / "val")
    with pytest.raises(JobError, match="holds test and val, and no folder train"):
        data_in(str(tmp_path))


def test_the_last_layer_is_the_one_with_parameters_of_its_own():
    """Not a container, nor a layer without weights."""
    from regraft.jobs.first_job import _last_layer

    model = nn.Sequential()
    model.add_module("body", nn.Sequential(nn.Linear(2, 2)))
    model.add_module("head", nn.Sequential(nn.Dropout(), nn.Linear(2, 2), nn.Softmax(1)))
    assert _last_layer(model) == "head.1"
