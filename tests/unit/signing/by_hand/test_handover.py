"""Tests of the handover: nothing is taken that is not right as a whole, and nothing old is lost."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from meshsigner.errors import ConfigurationError
from meshsigner.signing.by_hand.handover import Outcome, hand_over, read_delivery
from meshsigner.signing.by_hand.keys import NEXT_KEY, FileKey, ensure_waiting_key, waiting_key
from meshsigner.trust import load_certificates, load_directory
from tests.fakes.authority import NOW, Ca, CaKey, Shape, cacerts, make_ca, make_key, write_files

ROOT = make_ca("root")
OTHER_ROOT = make_ca("other root")
MIDDLE = make_ca("middle", issuer=ROOT)
LATER = Shape(not_after=NOW + timedelta(days=90))


def signed(directory: Path, issuer: Ca = ROOT, shape: Shape = LATER) -> Ca:
    """Have the key that waits signed by somebody."""
    key, _ = ensure_waiting_key(directory, "p256")
    return make_ca(f"intermediate of {directory.name}", issuer=issuer, key=key.key, shape=shape)


def deliver(directory: Path, *cas: Ca, at_once: bool = False) -> Outcome:
    """Hand over what came back."""
    delivery = tuple(ca.certificate for ca in cas)
    return hand_over(directory, delivery, waiting_key(directory), now=NOW, at_once=at_once)


def problems_of(directory: Path, *cas: Ca) -> Sequence[str]:
    """Hand over what will be refused; nothing may change."""
    before = states_of(directory)
    with pytest.raises(ConfigurationError) as caught:
        deliver(directory, *cas)
    assert states_of(directory) == before
    return caught.value.problems


def states_of(directory: Path) -> dict[str, bytes]:
    """Return every file with its content."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def installed(directory: Path, ca: Ca) -> None:
    """Put a CA there as an operator does."""
    write_files(directory, cacerts(ca, chain=[ca], roots=[ROOT]))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return where a CA goes; nothing is there yet."""
    return tmp_path / "ca"


def test_first_ca_is_installed_whole(directory: Path) -> None:
    """Certificate, chain and root in any order make a directory that the server takes."""
    ca = signed(directory, MIDDLE)
    outcome = deliver(directory, ROOT, MIDDLE, ca)
    found = load_directory(directory, generation=1, now=NOW)
    assert outcome.installed
    assert found.issuer.intermediates == (ca.certificate, MIDDLE.certificate)
    assert found.issuer.trust_bundle.certificates == (ROOT.certificate,)
    assert outcome.expires == found.expires == ca.certificate.not_valid_after_utc
    assert not (directory / NEXT_KEY).exists()


def test_key_is_closed_wherever_it_lies(directory: Path) -> None:
    """The key that waits and the one in use have mode 0600, their directories 0700."""
    ca = signed(directory)
    assert (directory / NEXT_KEY).stat().st_mode & 0o777 == 0o600
    deliver(directory, ca, ROOT)
    assert (directory / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(waiting_key_of(directory, ca))


def waiting_key_of(directory: Path, ca: Ca) -> FileKey:
    """Return the key in use as a handover holds it."""
    assert directory.exists()
    return FileKey(ca.key)


def test_renewal_keeps_root_and_bundle(directory: Path) -> None:
    """A second certificate under the same root takes the place of the first in one step."""
    deliver(directory, signed(directory), ROOT)
    ca = signed(directory)
    outcome = deliver(directory, ca)  # the root is there already
    found = load_directory(directory, generation=1, now=NOW)
    assert (outcome.installed, found.issuer.certificate) == (True, ca.certificate)
    assert found.key.public_key() == ca.key.public_key()


def test_new_root_is_announced_before_it_signs(directory: Path) -> None:
    """Under a root that no workload knows nothing is signed before it was in the bundle."""
    installed(directory, make_ca("old", issuer=ROOT, shape=LATER))
    old = load_directory(directory, generation=1, now=NOW)
    ca = signed(directory, OTHER_ROOT)
    first = deliver(directory, ca, OTHER_ROOT)
    between = load_directory(directory, generation=2, now=NOW)
    assert not first.installed
    assert between.issuer.certificate == old.issuer.certificate
    assert between.issuer.trust_bundle.certificates == (ROOT.certificate, OTHER_ROOT.certificate)
    assert (directory / NEXT_KEY).exists()
    second = deliver(directory, ca, OTHER_ROOT)
    after = load_directory(directory, generation=3, now=NOW)
    assert second.installed
    assert after.issuer.certificate == ca.certificate
    assert after.issuer.trust_bundle.certificates == (OTHER_ROOT.certificate, ROOT.certificate)


def test_new_root_may_be_taken_at_once(directory: Path) -> None:
    """Who says so need not wait, and the old root still stays in the bundle."""
    installed(directory, make_ca("old", issuer=ROOT, shape=LATER))
    outcome = deliver(directory, signed(directory, OTHER_ROOT), OTHER_ROOT, at_once=True)
    assert outcome.installed
    assert outcome.roots == (OTHER_ROOT.certificate, ROOT.certificate)


def test_certificate_of_another_key_is_refused(directory: Path) -> None:
    """What came back for another request is not taken."""
    signed(directory)
    (problem,) = problems_of(directory, make_ca("stranger", issuer=ROOT), ROOT)
    assert "holds no certificate for the key of the request" in problem


def test_path_must_be_complete(directory: Path) -> None:
    """A missing intermediate, and a missing root, are named by whom they are missing from."""
    ca = signed(directory, MIDDLE)
    assert "issuer 'CN=middle' is missing" in problems_of(directory, ca, ROOT)[0]
    assert "issuer 'CN=root' is missing" in problems_of(directory, ca, MIDDLE)[0]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(ca=False, cert_sign=False), "is not a CA certificate"),
        (Shape(cert_sign=False), "may not sign certificates"),
        (Shape(not_after=NOW - timedelta(hours=1)), "expired at"),
        (Shape(not_before=NOW + timedelta(hours=1)), "is not valid before"),
    ],
)
def test_certificate_that_cannot_sign_is_refused(directory: Path, shape: Shape, words: str) -> None:
    """The whole is judged as the server would judge it, and no hidden place is named."""
    problems = problems_of(directory, signed(directory, shape=shape), ROOT)
    assert any(words in problem for problem in problems)
    assert not any(".handover-" in problem for problem in problems)


def test_nobody_signs_again_under_a_ca_of_path_length_0(directory: Path) -> None:
    """A CA above that allows none below it is found before clients find it."""
    narrow = make_ca("narrow", issuer=ROOT, shape=Shape(path_length=0))
    problems = problems_of(directory, signed(directory, narrow), narrow, ROOT)
    assert any("path length 0" in problem for problem in problems)


def test_hsm_certificates_and_a_key_in_a_file_exclude_each_other(directory: Path) -> None:
    """A directory with a key in a file does not become the one of a CA in an HSM."""
    installed(directory, make_ca("old", issuer=ROOT, shape=LATER))
    key = FileKeyElsewhere(make_key("p256", 7))
    ca = make_ca("hsm", issuer=ROOT, key=key.key, shape=LATER)
    with pytest.raises(ConfigurationError, match="expected a directory without a key"):
        hand_over(directory, (ca.certificate,), key, now=NOW)


class FileKeyElsewhere:
    """A key that no file holds, as one in an HSM."""

    def __init__(self, key: CaKey) -> None:
        self.key = FileKey(key).key
        self.public_key = self.key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""
        return FileKey(self.key).sign(message)


def test_key_elsewhere_leaves_no_key_in_the_directory(directory: Path) -> None:
    """For a CA in an HSM only certificates are written."""
    key = FileKeyElsewhere(make_key("p384", 7))
    ca = make_ca("hsm", issuer=ROOT, key=key.key, shape=LATER)
    outcome = hand_over(directory, (ca.certificate, ROOT.certificate), key, now=NOW)
    assert outcome.installed
    assert not (directory / "ca-key.pem").exists()
    found = load_certificates(directory, generation=1, now=NOW)
    assert found.issuer.certificate == ca.certificate


def test_delivery_of_anything_else_is_refused(tmp_path: Path) -> None:
    """A missing file and a private key among the certificates are told at once."""
    (tmp_path / "key.pem").write_bytes(ROOT.key_pem())
    with pytest.raises(ConfigurationError) as caught:
        read_delivery([tmp_path / "nowhere.pem", tmp_path / "key.pem"])
    missing, key = caught.value.problems
    assert "is missing" in missing
    assert "is a PRIVATE KEY; expected CERTIFICATE only" in key


def test_secret_of_somebody_else_is_not_written(directory: Path) -> None:
    """A directory that cert-manager or the kubelet writes is left alone."""
    signed(directory)
    (directory / "tls.crt").write_bytes(ROOT.pem)
    assert "which somebody else writes" in problems_of(directory, ROOT)[0]


def test_waiting_key_that_others_can_read_is_refused(directory: Path) -> None:
    """The key of the request is a CA's key: 0600 or nothing."""
    signed(directory)
    (directory / NEXT_KEY).chmod(0o640)
    with pytest.raises(ConfigurationError, match="has mode 0640"):
        waiting_key(directory)


def test_same_key_waits_until_its_certificate_is_there(directory: Path) -> None:
    """A second request is for the same key: people may be signing the first one."""
    first, fresh = ensure_waiting_key(directory, "p256")
    again, made = ensure_waiting_key(directory, "p384")
    assert (fresh, made) == (True, False)
    assert first.public_key == again.public_key
