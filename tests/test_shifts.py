"""Both shifts together hold every test once, and their results are summed truly."""

from collections import Counter

import pytest

from tests.shifts import SECOND, closing, commands, failures


@pytest.mark.parametrize("tests", SECOND)
def test_each_folder_is_in_one_shift(tests: str) -> None:
    """What the first shift leaves out is what the second has."""
    first, second = commands(tests, ["-q"])
    left_out = [part.removeprefix("--ignore=") for part in first if part.startswith("--ignore=")]
    assert left_out == second[-len(SECOND[tests]) :] == list(SECOND[tests])
    assert "-q" in first
    assert "-q" in second


def test_conformance_has_its_own_configuration() -> None:
    """Plain pytest leaves the folder out, so both shifts name it with its configuration."""
    first, second = commands("conformance", [])
    assert first[-1] == "tests/conformance"
    assert "tests/conformance/pytest.ini" in first
    assert "tests/conformance/pytest.ini" in second


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("==== 554 passed in 700.12s (0:11:40) ====", {"passed": 554}),
        ("2 failed, 40 passed, 1 error in 3.00s", {"failed": 2, "passed": 40, "error": 1}),
        ("nothing of the kind", {}),
        ("", {}),
    ],
)
def test_the_closing_line_is_read(line: str, counts: dict[str, int]) -> None:
    """Of pytest's output only its own closing line counts."""
    assert closing(f"12 passed is what a test printed\n{line}\n") == Counter(counts)


def test_what_failed_is_found_once() -> None:
    """Failures and errors of the summary count, whatever else is printed."""
    output = (
        "FAILED is a word\n"
        "FAILED tests/conformance/a/test_b.py::test_c[x-1] - AssertionError: no\n"
        "ERROR tests/conformance/a/test_b.py::test_d\n"
        "FAILED tests/conformance/a/test_b.py::test_c[x-1] - again\n"
    )
    assert failures(output) == [
        "tests/conformance/a/test_b.py::test_c[x-1]",
        "tests/conformance/a/test_b.py::test_d",
    ]
