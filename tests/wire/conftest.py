"""Fixtures of the wire tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import aio

from tests.secret_scan import Secrets
from tests.wire.harness import Wire, serving


@pytest.fixture
async def wire(tmp_path: Path, no_secrets: Secrets) -> AsyncIterator[Wire]:
    """A server with the limits of production."""
    async with serving(tmp_path, no_secrets) as server:
        yield server


@pytest.fixture
async def channel(wire: Wire) -> AsyncIterator[aio.Channel]:
    """A client's connection to it."""
    async with wire.channel() as connection:
        yield connection
