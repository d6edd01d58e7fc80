"""A pytest plugin: no test may leave a token, a private key or a CSR in what the server says.

It looks at everything that a test wrote to standard output and standard error,
servers in child processes included, and at Python's logging; what a test learns
elsewhere (texts told to clients, metrics) it hands over through `no_secrets`.
Whoever invents a secret that no pattern knows, a garbage token for example,
registers it.
"""

import re
from collections.abc import Generator

import pytest

from meshsigner.observe.redaction import MATERIAL, REDACTED

_MIN_SECRET = 8  # shorter words turn up by chance


class Secrets:
    """What must not be seen, and what was seen."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: list[str] = []

    def register(self, secret: str) -> str:
        """Add a secret; returns it."""
        assert len(secret) >= _MIN_SECRET
        self._known.add(secret)
        return secret

    def saw(self, text: str) -> None:
        """Hand over something that the server said."""
        self._seen.append(text)

    def leaks(self, *texts: str) -> list[str]:
        """Name the secret material in what was seen and in some texts, cut short."""
        said = "\n".join([*self._seen, *texts])
        found = [secret for secret in self._known if secret in said]
        found += [match[0] for match in MATERIAL.finditer(said.replace(REDACTED, ""))]
        return [re.sub(r"\s", " ", leak)[:24] + "..." for leak in found]


_SECRETS = pytest.StashKey[Secrets]()


@pytest.fixture
def no_secrets(request: pytest.FixtureRequest) -> Secrets:
    """Where a test registers secrets and hands over what it saw."""
    return secrets_of(request.node)


def secrets_of(item: pytest.Item) -> Secrets:
    """Return the one `Secrets` of a test."""
    return item.stash.setdefault(_SECRETS, Secrets())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that leaked."""
    report = yield
    if report.when in {"call", "teardown"} and report.passed:
        said = (report.capstdout, report.capstderr, report.caplog)
        leaks = secrets_of(item).leaks(*said)
        if leaks:
            report.outcome = "failed"
            report.longrepr = f"secret material in what the server said: {', '.join(leaks)}"
    return report
