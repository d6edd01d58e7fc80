"""For all tests: nothing secret may be said (tests/secret_scan.py); how hard Hypothesis tries.

Profiles, chosen by `--hypothesis-profile`: `usual`, without deadlines, for a
busy machine is no fault; `mutants`, the same few examples each time; `fuzz`,
many.
"""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

pytest_plugins = ["tests.secret_scan"]

settings.register_profile("usual", deadline=None)
settings.register_profile("mutants", deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", deadline=None, max_examples=50_000)
settings.load_profile("usual")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Give the next test the logging that this one found."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
