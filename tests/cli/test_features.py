"""`regraft features`."""

import pytest
from pyarrow import parquet

from jobs import write_job
from typed import typed


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A small whole job."""
    return write_job(tmp_path_factory.mktemp("job"))


def test_a_jobs_features_are_written_with_class_names_and_paths(job):
    """For tools that know nothing of regraft."""
    out = job.parent / "f.parquet"
    done = typed("features", job, "--out", out, "--part", "test")
    table = parquet.read_table(out)
    assert done.code == 0, done.errors
    assert done.output.startswith(f"written: {out}, 16 examples, 256 bytes")
    assert table.column("id")[0].as_py().endswith(".png")
    assert b'"classes": [' in table.schema.metadata[b"regraft"]


def test_a_part_that_the_job_lacks_is_named(job):
    """With those that it has."""
    done = typed("features", job, "--out", job.parent / "f.parquet", "--part", "rest")
    assert done.code == 2
    assert "--part 'rest': the job has train, validation, test" in done.errors
