"""Set-up for all tests."""

import pytest

import vision_stub  # noqa: F401  # before any test imports torchvision or timm
from jobs import write_job


@pytest.fixture
def job_file(tmp_path):
    """A small whole job in a fresh folder; the path of its job.toml."""
    return write_job(tmp_path)
