"""Reading a metrics page."""

from benchmarks.micro.counted import Counted

PAGE = """\
# HELP meshsigner_turn_members Requests in one turn.
# TYPE meshsigner_turn_members histogram
meshsigner_turn_members_bucket{le="1.0"} 2.0
meshsigner_turn_members_count 4.0
meshsigner_turn_members_sum 10.0
meshsigner_calls_total{reason="ok"} 7.0
meshsigner_calls_total{reason="invalid_csr"} 3.0
"""


def test_page_is_read_with_labels() -> None:
    """Every line but comments is a value under the name that the page gives it."""
    counted = Counted.parse(PAGE)
    assert counted.values['meshsigner_calls_total{reason="ok"}'] == 7
    assert len(counted.values) == 5


def test_mean_is_sum_by_count() -> None:
    """A histogram's mean needs no buckets."""
    assert Counted.parse(PAGE).mean("meshsigner_turn_members") == 2.5


def test_mean_of_nothing_is_zero() -> None:
    """A histogram that has observed nothing, or is not there, divides by nothing."""
    assert Counted.parse("x_count 0.0\nx_sum 0.0\n").mean("x") == 0
    assert Counted().mean("x") == 0


def test_total_adds_up_labels() -> None:
    """A counter's total is over all its labels, and over no other counter."""
    assert Counted.parse(PAGE).total("meshsigner_calls_total") == 10


def test_difference_between_readings() -> None:
    """What counts is what came since; a counter that is new began at zero."""
    later = Counted.parse(PAGE + 'meshsigner_calls_total{reason="internal"} 1.0\n')
    since = later.since(Counted.parse(PAGE))
    assert since.total("meshsigner_calls_total") == 1
    assert since.mean("meshsigner_turn_members") == 0
