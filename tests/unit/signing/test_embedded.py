"""Tests of the embedded CA: right chain, right key, right issuer, whatever is swapped."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from meshsigner.csr import parse_csr
from meshsigner.errors import NotReady
from meshsigner.model import Chain, Health, Issuer, Order
from meshsigner.policy import authorize
from meshsigner.signing.embedded import (
    SERIAL_RANDOM_BITS,
    SERIAL_TIME_BITS,
    EmbeddedSigner,
    new_serial,
)
from meshsigner.trust.directory import CaFiles, load_directory
from meshsigner.verify import check_issued
from tests.fakes.authority import NOW, cacerts, make_ca, make_key, write_files
from tests.fakes.pipeline import make_caller, make_csr, make_policy

ROOT = make_ca("root")


class Source:
    """An issuer source that tests swap."""

    def __init__(self, files: CaFiles) -> None:
        self.current = files

    def health(self, now: datetime) -> Health:
        """Say that all is well."""
        return Health(name="issuer", ready=True, detail=f"at {now}")


def make_files(directory: Path, key: str = "p256", number: int = 0) -> CaFiles:
    """Load an intermediate of a key kind."""
    issuer = make_ca(f"issuer {number}", issuer=ROOT, key=make_key(key, number))
    files = cacerts(issuer, chain=[issuer, ROOT], roots=[ROOT])
    return load_directory(write_files(directory, files), generation=number, now=NOW)


def make_order(issuer: Issuer) -> Order:
    """Return an order for a P-256 CSR under an issuer."""
    caller, policy = make_caller(), make_policy()
    request = parse_csr(make_csr(make_key("p256", 99), caller.identity.uri))
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=None,
        policy=policy,
        now=NOW,
        issuer_not_after=issuer.certificate.not_valid_after_utc,
    )
    return Order(
        caller=caller,
        request=request,
        terms=terms,
        cert_signer="",
        issuer=issuer,
        peer="ipv4:127.0.0.1:1",
    )


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_statement_08_chain_verifies_to_the_bundle(tmp_path: Path, kind: str) -> None:
    """With every kind of CA key, the leaf verifies to the bundle with cryptography's verifier."""
    source = Source(make_files(tmp_path, kind))
    signer = EmbeddedSigner(source)
    chain = signer.sign(make_order(signer.issuer(NOW)))
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    store = Store(list(chain.issuer.trust_bundle.certificates))
    verifier = PolicyBuilder().store(store).time(NOW).build_client_verifier()
    verified = verifier.verify(leaf, list(chain.issuer.intermediates))
    assert [leaf, *chain.issuer.intermediates, ROOT.certificate] == verified.chain
    assert leaf.serial_number == chain.serial
    assert chain.backend == "embedded"


def test_statement_24_serials_are_positive_and_random() -> None:
    """A serial has 16 octets, the top bit clear, 86 random bits, and no two of 10,000 are equal."""
    serials = {new_serial(NOW) for _ in range(10_000)}
    assert len(serials) == 10_000
    assert {serial.bit_length() for serial in serials} == {127}
    for bit in range(SERIAL_RANDOM_BITS):
        ones = sum(serial >> bit & 1 for serial in serials)
        assert 4_500 < ones < 5_500  # ten standard deviations


def test_later_serials_are_larger() -> None:
    """The second comes before the random bits, so that an index grows at its end."""
    later = [new_serial(NOW + timedelta(seconds=n)) for n in range(100)]
    assert later == sorted(later)
    assert later[0] >> SERIAL_RANDOM_BITS == 1 << SERIAL_TIME_BITS | int(NOW.timestamp())


def test_template_and_key_are_made_once(tmp_path: Path) -> None:
    """What an issuer alone decides is derived when it comes, not for each signature."""
    source, opened = Source(make_files(tmp_path)), []

    class Key:
        def sign(self, message: bytes) -> bytes:
            return message[:8]

    def open_key(files: CaFiles) -> Key:
        opened.append(files)
        return Key()

    signer = EmbeddedSigner(source, open_key=open_key, name="hsm")
    order = make_order(signer.issuer(NOW))
    assert {signer.sign(order).backend for _ in range(5)} == {"hsm"}
    assert opened == [source.current]


def test_replaced_issuer_refuses_its_old_orders(tmp_path: Path) -> None:
    """After a swap an order of the old issuer is not ready, one of the new is signed."""
    source = Source(make_files(tmp_path / "one", number=1))
    signer = EmbeddedSigner(source)
    old = make_order(signer.issuer(NOW))
    source.current = make_files(tmp_path / "two", number=2)
    new = make_order(signer.issuer(NOW))
    assert signer.sign(new).issuer is source.current.issuer
    with pytest.raises(NotReady, match="has been replaced"):
        signer.sign(old)


def test_orders_of_a_swap_not_yet_seen_are_signed(tmp_path: Path) -> None:
    """An order under the new issuer is signed also when the signer sees the swap only then."""
    source = Source(make_files(tmp_path / "one", number=1))
    signer = EmbeddedSigner(source)
    source.current = make_files(tmp_path / "two", number=2)
    assert signer.sign(make_order(source.current.issuer)).issuer is source.current.issuer


def test_statement_22_expired_issuer_is_not_ready(tmp_path: Path) -> None:
    """From the second after the CA's end on there is no issuer."""
    source = Source(make_files(tmp_path))
    signer = EmbeddedSigner(source)
    end = source.current.expires
    assert signer.issuer(end) is source.current.issuer
    with pytest.raises(NotReady, match="the CA expired at 2027-11-24 12:00:00Z"):
        signer.issuer(end + timedelta(seconds=1))


def test_health_is_that_of_the_source(tmp_path: Path) -> None:
    """Whoever keeps the CA knows how it is."""
    signer = EmbeddedSigner(Source(make_files(tmp_path)))
    assert signer.health(NOW) == Health(name="issuer", ready=True, detail=f"at {NOW}")


def test_swaps_under_load_never_mix_issuers(tmp_path: Path) -> None:
    """While CAs are swapped, every chain that several threads get fits its own order and issuer."""
    kinds = ("p256", "p384", "rsa2048")
    generations = [make_files(tmp_path / kind, kind, i) for i, kind in enumerate(kinds)]
    source = Source(generations[0])
    signer = EmbeddedSigner(source)
    done = threading.Event()

    def swap() -> int:
        count = 0
        while not done.wait(0.001):
            count += 1
            source.current = generations[count % len(generations)]
        return count

    def sign(_: int) -> Chain | None:
        order = make_order(signer.issuer(NOW))
        try:
            return check_issued(signer.sign(order), order)
        except NotReady:
            return None

    with ThreadPoolExecutor(max_workers=5) as pool:
        swaps = pool.submit(swap)
        try:
            chains = [chain for chain in pool.map(sign, range(600)) if chain]
        finally:
            done.set()
    assert swaps.result() > 3
    assert {chain.issuer.generation for chain in chains} == {0, 1, 2}
    assert len({chain.serial for chain in chains}) == len(chains)
