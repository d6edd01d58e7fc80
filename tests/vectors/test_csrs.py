"""The known attacks on a CSR, one vector each: what becomes of it, and that files are honest."""

import json
from collections import Counter
from typing import cast

import pytest

from meshsigner.csr import parse_csr
from meshsigner.errors import InvalidCsr
from meshsigner.model import MAX_CSR_BYTES
from tests.vectors.case import Case, Possession, Verdict
from tests.vectors.judge import decide, verdict_on
from tests.vectors.make_csrs import FOLDER, all_cases, differences
from tests.vectors.pkcs10 import IDENTITY

CASES = all_cases()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: cast("Case", case).name)
ACCEPTED = [case for case in CASES if case.verdict is Verdict.ACCEPTED]


@each_case
def test_csr_gets_its_documented_verdict(case: Case) -> None:
    """Each vector is accepted, or refused by the error that its index entry names."""
    assert verdict_on(case.csr) is case.verdict, case.reason


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: cast("Case", case).name)
def test_statement_28_nothing_but_the_key_survives(case: Case) -> None:
    """Whatever an accepted CSR holds, the terms name the caller and only the caller."""
    terms = decide(case.csr)
    assert terms.identity.uri == IDENTITY
    assert terms.common_name in {None, IDENTITY}


def test_statement_29_no_request_to_be_a_ca_is_accepted() -> None:
    """CA:TRUE, keyCertSign and cRLSign are refused in every combination held here."""
    asking = [case for case in CASES if case.source == "statement 29"]
    assert len(asking) == 5
    for case in asking:
        with pytest.raises(InvalidCsr, match="unable to generate CA certificates"):
            parse_csr(case.csr)


def test_files_are_what_the_script_writes() -> None:
    """Every vector file and the index are, byte for byte, what make_csrs would write."""
    assert differences(FOLDER) == []


def test_a_changed_file_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The comparison names changed, missing and left-over files."""
    folder = tmp_path_factory.mktemp("csr")
    for path in FOLDER.glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    assert differences(folder) == []
    (folder / "ztunnel.pem").write_bytes(b"x")
    (folder / "ca_true.pem").unlink()
    (folder / "new.pem").write_bytes(b"")
    assert differences(folder) == ["ca_true.pem", "new.pem", "ztunnel.pem"]


def test_index_explains_every_vector() -> None:
    """Each entry says verdict, reason and source in words, and no name occurs twice."""
    index = json.loads((FOLDER / "index.json").read_bytes())
    assert Counter(entry["name"] for entry in index).most_common(1)[0][1] == 1
    for entry in index:
        assert Verdict(entry["verdict"])
        assert Possession(entry["possession"])
        assert len(entry["reason"].split()) >= 3
        assert entry["source"]


def test_refusals_never_repeat_the_request() -> None:
    """No client text holds anything from the CSR, however readable it is."""
    for case in CASES:
        try:
            parse_csr(case.csr)
        except InvalidCsr as refusal:
            told = refusal.client_text
            assert told.isascii()
            assert "spiffe:" not in told
            assert len(told) < 120


def test_one_megabyte_is_refused_by_its_size_alone() -> None:
    """A huge request is refused before its text is looked at."""
    (case,) = (case for case in CASES if case.name == "large_1_megabyte")
    assert len(case.csr) > 1_000_000
    with pytest.raises(InvalidCsr, match=f"larger than {MAX_CSR_BYTES} bytes"):
        parse_csr(case.csr)
