"""Set-up for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

import one_thread  # noqa: F401  # before torch is imported
import vision_stub  # noqa: F401  # before any test imports torchvision or timm
from jobs import write_job

# A busy machine must not fail a test, hence no deadline; a folder may be used again by the next example.
_AT_EASE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("same", derandomize=True, max_examples=60, **_AT_EASE)  # `make test` is the same each time
settings.register_profile("search", max_examples=1000, print_blob=True, **_AT_EASE)  # `make fuzz` looks for news
settings.load_profile(os.environ.get("REGRAFT_HYPOTHESIS", "same"))


@pytest.fixture
def job_file(tmp_path):
    """A small whole job in a fresh folder; the path of its job.toml."""
    return write_job(tmp_path)
