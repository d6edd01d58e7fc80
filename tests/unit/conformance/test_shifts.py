"""Both shifts together hold every conformance test once, and their results are summed truly."""

from collections import Counter

import pytest

from tests.conformance.shifts import HERE, SECOND, closing, commands, failures


def test_each_folder_is_in_one_shift() -> None:
    """What the first shift leaves out is what the second has."""
    first, second = commands(["-q"])
    left_out = {part.removeprefix("--ignore=") for part in first if part.startswith("--ignore=")}
    assert left_out == set(second[-len(SECOND) :])
    assert left_out == {f"tests/conformance/{name}" for name in SECOND}
    assert "tests/conformance" in first
    assert all((HERE / name).is_dir() for name in SECOND)


def test_own_tests_are_in_one_shift_each() -> None:
    """Of the project's own tests the second shift has tests/wire, the first all others."""
    first, second = commands(["--own", "-q"])
    assert "--ignore=tests/wire" in first
    assert second[-1] == "tests/wire"
    assert "--own" not in first + second
    assert "-q" in first


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
