"""hadolint has nothing to say about the Dockerfile."""

import subprocess

from tests.conformance.prerequisites import PROJECT, SERVERS_BIN


def _hadolint(dockerfile: str) -> "subprocess.CompletedProcess[str]":
    """Lint a Dockerfile's text."""
    return subprocess.run(
        [SERVERS_BIN / "hadolint", "--no-color", "-"],
        input=dockerfile,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_dockerfile_is_clean() -> None:
    """The project's Dockerfile has no finding of any severity, and waives none in its comments."""
    text = (PROJECT / "Dockerfile").read_text()
    done = _hadolint(text)
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in text


def test_linter_finds_what_is_wrong() -> None:
    """The check above can fail: an unpinned base, run as root by a shell, is found."""
    done = _hadolint("FROM python\nRUN cd /tmp && pip install flask\nCMD meshsigner\n")
    assert done.returncode != 0
    assert "DL3006" in done.stdout
