"""Whether files of calls and outcomes give back what was written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.calls import NO_ANSWER, Answer, Call, Outcome
from benchmarks.load.records import read_calls, read_results, write_calls, write_outcomes

calls = st.builds(
    Call,
    token_block=st.binary(max_size=50),
    body=st.binary(max_size=50),
    public_key_der=st.binary(max_size=50),
    uri_san=st.text(st.characters(codec="utf-8"), max_size=50),
    wanted=st.integers(0, 16),
)


@given(made=st.lists(calls, max_size=5))
def test_calls_come_back(made: list[Call], tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is read is what was written, in order."""
    file = tmp_path_factory.mktemp("calls") / "calls.bin"
    write_calls(file, made)
    assert list(read_calls(file)) == made


def test_outcomes_come_back(tmp_path: Path) -> None:
    """Position, times, status, message and body of an outcome survive the file."""
    call = Call(token_block=b"", body=b"", public_key_der=b"", uri_san="")
    answer = Answer(status=NO_ANSWER, message="nö", body=b"\x00\x01", at_ns=30)
    outcome = Outcome(call=call, planned_ns=10, sent_ns=12, answer=answer, attempts=7)
    write_outcomes(tmp_path / "o", [(3, outcome)])
    (result,) = read_results(tmp_path / "o")
    assert (result.position, result.planned_ns, result.sent_ns) == (3, 10, 12)
    assert (result.attempts, result.answer, result.latency_ns) == (7, answer, 20)


def test_file_that_is_cut_off_is_no_file(tmp_path: Path) -> None:
    """A missing end is an error, never a shorter call."""
    write_calls(
        tmp_path / "c", [Call(token_block=b"t", body=b"b", public_key_der=b"k", uri_san="san")]
    )
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut off"):
        list(read_calls(tmp_path / "c"))
