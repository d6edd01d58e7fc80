"""Files that prove a server and ourselves, renewed in place by others."""

import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from meshsigner.errors import BackendUnavailable
from meshsigner.kube import BearerToken, Connection, TlsFiles
from tests.fakes.serving_tls import TestRoots

ROOTS = TestRoots()


def swap(directory: Path, name: str, content: bytes) -> Path:
    """Publish a file as the kubelet does: a new folder behind the link `..data`."""
    folder = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    (folder / name).write_bytes(content)
    link = directory / "..data.new"
    link.symlink_to(folder.name)
    link.rename(directory / "..data")
    file = directory / name
    if not file.is_symlink():
        file.symlink_to(Path("..data") / name)
    return file


def test_the_server_is_always_verified(tmp_path: Path) -> None:
    """Certificate and name are checked, from TLS 1.2, with the given roots alone."""
    roots = swap(tmp_path, "ca.crt", ROOTS.pem)
    both: list[Path | bytes] = [roots, ROOTS.pem]
    for ca in both:
        context = TlsFiles(ca=ca).context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert len(context.get_ca_certs()) == 1


def test_without_roots_the_systems_are_taken() -> None:
    """For public issuers; verification stays on."""
    context = TlsFiles().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_roots_are_taken_anew_when_they_change(tmp_path: Path) -> None:
    """A swap of `..data` shows with the next connection; without one nothing is read."""
    files = TlsFiles(ca=swap(tmp_path, "ca.crt", ROOTS.pem))
    before = files.context()
    assert files.context() is before
    swap(tmp_path, "ca.crt", ROOTS.pem + TestRoots().pem)
    assert len(files.context().get_ca_certs()) == 2


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"\xff"])
def test_roots_that_are_none_are_our_fault(tmp_path: Path, content: bytes) -> None:
    """The file is named, its content is not."""
    path = tmp_path / "ca.crt"
    path.write_bytes(content)
    with pytest.raises(BackendUnavailable, match=r"ca\.crt"):
        TlsFiles(ca=path).context()
    with pytest.raises(BackendUnavailable, match="inline certificates"):
        TlsFiles(ca=content).context()
    path.unlink()
    with pytest.raises(BackendUnavailable, match="No such file"):
        TlsFiles(ca=path).context()


def test_a_client_certificate_leaves_no_key_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL needs files: an inline key is lent one that nobody else can read, then it goes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    identity = ROOTS.issue("client")
    files = TlsFiles(ca=ROOTS.pem, certificate=identity.certificate, key=identity.key)
    assert files.context().get_ca_certs()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BackendUnavailable):
        TlsFiles(ca=ROOTS.pem, certificate=identity.certificate, key=b"none").context()
    assert list(tmp_path.iterdir()) == []


def test_a_client_certificate_from_files(tmp_path: Path) -> None:
    """Certificate and key are taken from where they are."""
    identity = ROOTS.issue("client")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(identity.certificate)
    key.write_bytes(identity.key)
    assert TlsFiles(ca=ROOTS.pem, certificate=certificate, key=key).context().get_ca_certs()


def test_an_encrypted_key_is_told_instead_of_asked_for(tmp_path: Path) -> None:
    """Nobody sits at a server's terminal."""
    identity = ROOTS.issue("client")
    encrypted = load_pem_private_key(identity.key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    key = tmp_path / "tls.key"
    key.write_bytes(encrypted)
    with pytest.raises(BackendUnavailable, match="the private key is encrypted"):
        TlsFiles(ca=ROOTS.pem, certificate=identity.certificate, key=key).context()


async def test_a_token_file_is_read_again_after_its_time(tmp_path: Path) -> None:
    """The kubelet renews it in place; within the time no file is read, unless it was refused."""
    path = swap(tmp_path, "token", b" first \n")
    minute, always = BearerToken(path), BearerToken(path, reread_after_s=0)
    assert (minute.current(), always.current()) == ("first", "first")
    swap(tmp_path, "token", b"second")
    assert (minute.current(), always.current()) == ("first", "second")
    minute.refused()
    assert minute.current() == "second"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\r\nInjected: 1", b"\xff"])
async def test_a_file_without_a_token_is_our_fault(tmp_path: Path, content: bytes) -> None:
    """An empty file, header injection and binary are no token; nothing is quoted."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(BackendUnavailable, match=r"token file .*token") as caught:
        BearerToken(path).current()
    assert "Injected" not in str(caught.value)
    path.unlink()
    with pytest.raises(BackendUnavailable, match="FileNotFoundError"):
        BearerToken(path).current()


def test_a_connection_shows_no_secret() -> None:
    """Its text form, which ends in logs sooner or later, holds neither token nor key."""
    identity = ROOTS.issue("client")
    connection = Connection(
        server="https://k",
        tls=TlsFiles(ca=ROOTS.pem, certificate=identity.certificate, key=identity.key),
        token=BearerToken("hunter2"),
    )
    assert repr(connection) == "Connection(server='https://k', server_name=None)"
    assert "hunter2" not in repr(connection.token)
