"""Tests of loading a CA from a directory: every layout and key that is good is taken."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat

from meshsigner.errors import ConfigurationError
from meshsigner.trust.directory import CaFiles, load_directory
from meshsigner.verify import check_issuer
from tests.fakes.authority import (
    NOW,
    Ca,
    KubernetesMount,
    Shape,
    cacerts,
    make_ca,
    make_key,
    tls_secret,
    write_files,
)

KEY_KINDS = ("p256", "p384", "rsa2048", "rsa3072", "rsa4096")
FORMS = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)  # the second: PKCS #1 or SEC 1


def load(directory: Path) -> CaFiles:
    """Load at the tests' time; what is taken passes the check of every answer's issuer, too."""
    found = load_directory(directory, generation=7, now=NOW)
    assert check_issuer(found.issuer, NOW) is found.issuer
    return found


@pytest.fixture(scope="module")
def root() -> Ca:
    """Return a root."""
    return make_ca("root")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("layout", ["cacerts", "tls"])
def test_every_layout_and_key_is_taken(
    tmp_path: Path,
    root: Ca,
    layout: str,
    kind: str,
    form: PrivateFormat,
) -> None:
    """Both layouts are taken with RSA, P-256 and P-384 keys in PKCS #8, PKCS #1 and SEC 1."""
    issuer = make_ca("issuer", issuer=root, key=make_key(kind))
    files = (
        cacerts(issuer, chain=[issuer, root], roots=[root], key_form=form)
        if layout == "cacerts"
        else tls_secret([issuer], roots=[root], key_form=form)
    )
    found = load(write_files(tmp_path / "ca", files))
    assert issuer.certificate == found.issuer.certificate
    assert isinstance(found.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    assert issuer.certificate.public_key() == found.key.public_key()
    assert found.issuer.generation == 7


def test_statement_07_chain_goes_from_the_signing_ca_upwards(tmp_path: Path, root: Ca) -> None:
    """The signing CA comes first, then upwards, each in an element of its own, roots excluded."""
    upper = make_ca("upper", issuer=root)
    issuer = make_ca("issuer", issuer=upper, shape=Shape(path_length=0))
    files = cacerts(issuer, chain=[issuer, upper, root], roots=[root])
    found = load(write_files(tmp_path / "ca", files)).issuer
    assert (issuer.certificate, upper.certificate) == found.intermediates
    assert (issuer.pem.decode(), upper.pem.decode()) == found.chain_pem
    assert root.pem.decode() == found.trust_bundle.pem


def test_chain_without_root_is_enough(tmp_path: Path, root: Ca) -> None:
    """The root need not stand in the chain file: it is in the bundle."""
    issuer = make_ca("issuer", issuer=root)
    files = cacerts(issuer, chain=[issuer], roots=[root])
    found = load(write_files(tmp_path / "ca", files)).issuer
    assert (issuer.certificate,) == found.intermediates


def test_signing_ca_is_put_first_where_the_chain_leaves_it_out(tmp_path: Path, root: Ca) -> None:
    """A chain file with only what stands above the CA is completed, and that is remarked."""
    upper = make_ca("upper", issuer=root)
    issuer = make_ca("issuer", issuer=upper)
    for chain, intermediates in (([upper, root], [issuer, upper]), ([upper], [issuer, upper])):
        found = load(write_files(tmp_path / "ca", cacerts(issuer, chain=chain, roots=[root])))
        assert [ca.certificate for ca in intermediates] == list(found.issuer.intermediates)
        assert any("is not the signing CA, 'CN=issuer'" in remark for remark in found.warnings)


@pytest.mark.parametrize("layout", ["cacerts", "tls"])
def test_root_that_signs_is_not_repeated(tmp_path: Path, root: Ca, layout: str) -> None:
    """A root that signs leaves itself stands in the bundle only: the answer is leaf and root."""
    files = (
        cacerts(root, chain=[root], roots=[root])
        if layout == "cacerts"
        else tls_secret([root], roots=[root])
    )
    found = load(write_files(tmp_path / "ca", files)).issuer
    assert found.intermediates == ()
    assert found.chain_pem == ()
    assert (root.certificate,) == found.trust_bundle.certificates


def test_statement_05_bundle_is_handed_out_as_it_stands(tmp_path: Path, root: Ca) -> None:
    """All roots go out in the file's order; the one in use is first among the certificates."""
    other = make_ca("other root")
    issuer = make_ca("issuer", issuer=root)
    found = load(
        write_files(tmp_path / "ca", cacerts(issuer, chain=[issuer], roots=[other, root])),
    )
    assert (other.pem + root.pem).decode() == found.issuer.trust_bundle.pem
    assert (root.certificate, other.certificate) == found.issuer.trust_bundle.certificates
    assert any("not first" in remark for remark in found.warnings)


def test_statement_06_each_pem_ends_with_one_newline(tmp_path: Path, root: Ca) -> None:
    """Comments, CRLF and blank lines are dropped; each PEM ends with exactly one newline."""
    issuer = make_ca("issuer", issuer=root)
    files = cacerts(issuer, chain=[issuer], roots=[root])
    files["root-cert.pem"] = b"# our root\r\n" + root.pem.replace(b"\n", b"\r\n").strip()
    files["cert-chain.pem"] = b"Bag Attributes\n" + issuer.pem + b"\n\n"
    found = load(write_files(tmp_path / "ca", files)).issuer
    assert root.pem.decode() == found.trust_bundle.pem
    assert (issuer.pem.decode(),) == found.chain_pem


def test_statement_09_each_root_is_handed_out_once(tmp_path: Path, root: Ca) -> None:
    """A root that stands twice in the bundle goes out once, in its first place, and is remarked."""
    other = make_ca("other root")
    issuer = make_ca("issuer", issuer=root)
    files = cacerts(issuer, chain=[issuer], roots=[root, other, root])
    found = load(write_files(tmp_path / "ca", files))
    assert (root.pem + other.pem).decode() == found.issuer.trust_bundle.pem
    assert (root.certificate, other.certificate) == found.issuer.trust_bundle.certificates
    assert any("certificate 3: stands in the bundle already" in text for text in found.warnings)


def test_renewed_root_of_the_same_key_is_in_use(tmp_path: Path) -> None:
    """Of two roots that both issued the CA (one key, two validities), the longer one counts."""
    key = make_key("p256")
    short = make_ca("root", key=key, shape=Shape(not_after=NOW + timedelta(days=2)))
    long = make_ca("root", key=key, shape=Shape(not_after=NOW + timedelta(days=900)))
    issuer = make_ca("issuer", issuer=long)
    found = load(
        write_files(tmp_path / "ca", cacerts(issuer, chain=[issuer], roots=[short, long])),
    )
    assert long.certificate == found.issuer.trust_bundle.certificates[0]
    assert issuer.certificate.not_valid_after_utc == found.expires


def test_expiry_is_that_of_the_whole_path(tmp_path: Path) -> None:
    """A CA ends when the first certificate above it ends, and that is remarked."""
    root = make_ca("root", shape=Shape(not_after=NOW + timedelta(days=3)))
    issuer = make_ca("issuer", issuer=root)
    found = load(write_files(tmp_path / "ca", cacerts(issuer, chain=[issuer], roots=[root])))
    assert NOW + timedelta(days=3) == found.expires
    assert any("expires before the signing CA" in remark for remark in found.warnings)


def test_what_works_but_badly_is_remarked(tmp_path: Path, root: Ca) -> None:
    """A slow key, no cRLSign, no key id and an expired further root are warnings, no problems."""
    shape = Shape(crl_sign=False, key_id=False)
    issuer = make_ca("issuer", issuer=root, key=make_key("rsa4096"), shape=shape)
    old = make_ca("old root", shape=Shape(not_after=NOW - timedelta(hours=1)))
    files = cacerts(issuer, chain=[issuer], roots=[root, old])
    remarks = "\n".join(load(write_files(tmp_path / "ca", files)).warnings)
    assert "4096 bits: signing is slow" in remarks
    assert "no cRLSign" in remarks
    assert "no subject key identifier" in remarks
    assert "'CN=old root' expired at 2026-11-24 11:00:00Z" in remarks


def test_openssl_default_root_is_taken(tmp_path: Path) -> None:
    """A root without keyUsage, as openssl makes it by default, is a root."""
    root = make_ca("root", shape=Shape(cert_sign=None))
    issuer = make_ca("issuer", issuer=root)
    found = load(write_files(tmp_path / "ca", cacerts(issuer, chain=[issuer], roots=[root])))
    assert root.certificate == found.issuer.trust_bundle.certificates[0]


def test_old_chain_without_key_ids_is_taken(tmp_path: Path) -> None:
    """Key identifiers are no condition: names and signatures make the path."""
    root = make_ca("root", shape=Shape(key_id=False))
    upper = make_ca("upper", issuer=root, shape=Shape(key_id=False))
    issuer = make_ca("issuer", issuer=upper)
    files = cacerts(issuer, chain=[issuer, upper], roots=[root])
    found = load(write_files(tmp_path / "ca", files)).issuer
    assert (issuer.certificate, upper.certificate) == found.intermediates


def test_kubernetes_mount_is_taken(tmp_path: Path, root: Ca) -> None:
    """A Secret mount is read through its links, and its 0644 key is no fault."""
    issuer = make_ca("issuer", issuer=root)
    mount = KubernetesMount(tmp_path / "cacerts")
    found = load(mount.swap(cacerts(issuer, chain=[issuer, root], roots=[root])))
    assert issuer.certificate == found.issuer.certificate


def test_key_that_a_group_can_read_is_refused(tmp_path: Path, root: Ca) -> None:
    """A key is its owner's alone: not even a service's group may read it."""
    issuer = make_ca("issuer", issuer=root)
    directory = write_files(tmp_path / "ca", cacerts(issuer, chain=[issuer], roots=[root]))
    (directory / "ca-key.pem").chmod(0o640)
    with pytest.raises(ConfigurationError, match="has mode 0640"):
        load(directory)


def test_key_is_not_shown(tmp_path: Path, root: Ca) -> None:
    """The text form of what was loaded has no private key in it."""
    issuer = make_ca("issuer", issuer=root)
    found = load(write_files(tmp_path / "ca", cacerts(issuer, chain=[issuer], roots=[root])))
    assert "key=" not in repr(found)


def test_all_problems_are_told_at_once(tmp_path: Path, root: Ca) -> None:
    """Faults of different files come together in one error."""
    issuer = make_ca("issuer", issuer=root, shape=Shape(ca=False, cert_sign=False))
    files = cacerts(issuer, chain=[issuer], roots=[root])
    files["ca-key.pem"] = make_ca("other").key_pem()
    directory = write_files(tmp_path / "ca", files)
    (directory / "ca-key.pem").chmod(0o644)
    with pytest.raises(ConfigurationError) as caught:
        load(directory)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for part in ("has mode 0644", "is no key of", "not a CA certificate", "may not sign"):
        assert part in text


def test_recorded_istiod_ca_is_taken(tmp_path: Path) -> None:
    """The CA that istiod itself ran with (tests/vectors/recorded) is taken as it is."""
    recorded = Path(__file__).parents[2] / "vectors" / "recorded"
    certificate = (recorded / "istiod-ca-cert.pem").read_bytes()
    key = (recorded / "istiod-ca-key.pem").read_bytes()
    names = ("ca-cert.pem", "cert-chain.pem", "root-cert.pem")
    directory = write_files(
        tmp_path / "ca",
        {**dict.fromkeys(names, certificate), "ca-key.pem": key},
    )
    found = load(directory).issuer
    assert found.intermediates == ()
    assert certificate.decode().strip() + "\n" == found.trust_bundle.pem
