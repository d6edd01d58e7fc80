"""Every behaviour of OpenBao's PKI that matters to us, on a real server."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    NotReady,
    Overloaded,
    WrongCertificate,
)
from meshsigner.model import Chain
from meshsigner.signing.openbao.kinds import PKI
from tests.conformance.openbao.backend import driven, make_errand, surroundings_in, utc_now
from tests.conformance.openbao.mounts import Mesh
from tests.conformance.openbao.proxy import proxy_before
from tests.conformance.openbao.server import ACTIVE, UNINITIALISED, OpenBao, new_server

BACK_WITHIN_S = 5.0


def settings_of(mesh: Mesh, **changes: Any) -> dict[str, Any]:
    """Return settings of the PKI backend."""
    return mesh.settings("openbao_pki", **changes)


@pytest.mark.parametrize("key", ["p256", "p384", "rsa2048"])
async def test_certificate_is_as_ordered(mesh: Mesh, tmp_path: Path, key: str) -> None:
    """With every kind of key the certificate is what was ordered, to the second of its end."""
    async with driven(PKI, settings_of(mesh), tmp_path) as backend:
        errand = backend.errand(key=key, lifetime=timedelta(hours=3))
        (chain,) = await backend.call([errand])
        assert isinstance(chain, Chain), chain
        backend.check(chain, errand.order)
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    assert leaf.not_valid_after_utc == errand.order.terms.not_after
    # the issuer alone stands between leaf and root: the self-signed root is not in the chain
    assert [c.issuer == c.subject for c in chain.issuer.intermediates] == [False]
    assert len(chain.issuer.trust_bundle.certificates) == 1


async def test_names_in_the_csr_do_not_matter(mesh: Mesh, tmp_path: Path) -> None:
    """The role takes no name from the CSR: the certificate has the identity of the terms alone."""
    async with driven(PKI, settings_of(mesh), tmp_path) as backend:
        chain = await backend.sign()
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/foo/sa/sa-0"
    ]
    assert not list(leaf.subject)


async def test_role_that_takes_names_from_the_csr_is_found_out(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """A role without its key usages, or with a subject, makes a wrong certificate, and it shows."""
    own_mesh.role(key_usage=["DigitalSignature", "KeyAgreement"], ou=["somebody"])
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        with pytest.raises(WrongCertificate, match="key usage differs") as raised:
            await backend.sign()
    assert "subject differs" in raised.value.mismatches


async def test_identity_outside_the_role_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """A bad SAN is a 400: refused for this order, another try changes nothing."""
    own_mesh.role(allowed_uri_sans=["spiffe://cluster.local/ns/other/*"])
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        with pytest.raises(BackendRefused, match="not valid for this role"):
            await backend.sign()
        assert backend.signer.health(utc_now()).ready


async def test_common_name_is_refused_before_it_is_asked(mesh: Mesh, tmp_path: Path) -> None:
    """An order with a subject, which the engine would make otherwise than istiod, is refused."""
    async with driven(PKI, settings_of(mesh), tmp_path) as backend:
        errand = backend.errand()
        terms = replace(errand.order.terms, common_name="x")
        errand = replace(errand, order=replace(errand.order, terms=terms))
        (found,) = await backend.call([errand])
    assert isinstance(found, BackendRefused)


async def test_end_beyond_the_role_is_refused_not_shortened(own_mesh: Mesh, tmp_path: Path) -> None:
    """Under not_after_bound=ttl-limited an end over the role's maximum is a no, never a cut."""
    own_mesh.role(max_ttl="1h")
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        with pytest.raises(BackendRefused, match="beyond the TTL of 1h"):
            await backend.sign(lifetime=timedelta(hours=2))
        await backend.sign(lifetime=timedelta(minutes=30))


async def test_silently_shortened_ttl_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """A TTL over the role's maximum comes back 200 and shortened: refused unless accepted."""
    own_mesh.role(max_ttl="1h", not_after_bound="forbid")
    async with driven(PKI, settings_of(own_mesh, validity="ttl"), tmp_path) as backend:
        with pytest.raises(BackendRefused, match=r"ends (0:59:|1:0)") as raised:
            await backend.sign(lifetime=timedelta(hours=2))
    assert "shorten: true" in str(raised.value)


async def test_silently_shortened_ttl_is_accepted_and_counted(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """With `shorten` it is taken, with its real end in the terms, and it is counted."""
    own_mesh.role(max_ttl="1h", not_after_bound="forbid")
    settings = settings_of(own_mesh, validity="ttl", shorten=True)
    async with driven(PKI, settings, tmp_path) as backend:
        chain = await backend.sign(lifetime=timedelta(hours=2))
        shown = backend.metrics.render().decode()
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    assert leaf.not_valid_after_utc - utc_now() <= timedelta(hours=1)
    assert 'meshsigner_backend_certificates_shortened_total{backend="corporate"} 1.0' in shown


async def test_ttl_within_the_role_ends_a_minute_early(own_mesh: Mesh, tmp_path: Path) -> None:
    """With `ttl` a certificate ends at most two minutes before what was asked, never after it."""
    own_mesh.role(not_after_bound="forbid")
    async with driven(PKI, settings_of(own_mesh, validity="ttl"), tmp_path) as backend:
        errand = backend.errand(lifetime=timedelta(hours=1))
        (chain,) = await backend.call([errand])
        assert isinstance(chain, Chain), chain
        backend.check(chain, errand.order)
    end = x509.load_der_x509_certificate(chain.leaf_der).not_valid_after_utc
    early = errand.order.terms.not_after - end
    assert timedelta() <= early <= timedelta(minutes=2)


async def test_role_that_forbids_ends_says_what_to_do(own_mesh: Mesh, tmp_path: Path) -> None:
    """`exact` against not_after_bound=forbid is our configuration's fault, told in words."""
    own_mesh.role(not_after_bound="forbid")
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        with pytest.raises(BackendUnavailable, match="set `validity: ttl` here"):
            await backend.sign()


async def test_end_beyond_the_ca_is_the_ca_s_fault(own_mesh: Mesh, tmp_path: Path) -> None:
    """An end past the CA's own is a 400 that concerns every order: the next backend is tried."""
    own_mesh.new_issuer(ttl="1h")
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        issuer = backend.signer.issuer(utc_now())
        errand = make_errand(
            issuer, lifetime=timedelta(hours=3), not_after=utc_now() + timedelta(days=9)
        )
        (found,) = await backend.call([errand])
        assert isinstance(found, BackendUnavailable)
        assert "renew the CA" in str(found)
        assert not found.maybe_issued
        # what the pipeline orders never ends after the issuer
        await backend.sign(lifetime=timedelta(hours=3))


async def test_truncating_ca_is_found_out(own_mesh: Mesh, tmp_path: Path) -> None:
    """leaf_not_after_behavior=truncate cuts in silence: the certificate is not what was ordered."""
    own_mesh.new_issuer(ttl="1h")
    own_mesh.bao.write(f"{own_mesh.pki}/issuer/default", {"leaf_not_after_behavior": "truncate"})
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        errand = make_errand(
            backend.signer.issuer(utc_now()),
            lifetime=timedelta(hours=3),
            not_after=utc_now() + timedelta(days=9),
        )
        (chain,) = await backend.call([errand])
        assert isinstance(chain, Chain), chain
        with pytest.raises(WrongCertificate, match="not after"):
            backend.check(chain, errand.order)


async def test_sealed_server_is_unavailable_and_usable_at_once_after(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """Sealed is a 503: nothing was issued, health says so; after the unsealing it signs again."""
    bao = own_mesh.bao
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        await asyncio.to_thread(bao.seal)
        with pytest.raises(BackendUnavailable, match="sealed") as raised:
            await backend.sign()
        assert not raised.value.maybe_issued
        assert "sealed" in await backend.until(ready=False)
        await asyncio.to_thread(bao.unseal)
        unsealed_s = time.monotonic()
        await backend.until(ready=True)
        await backend.sign()
        assert time.monotonic() - unsealed_s < BACK_WITHIN_S


async def test_start_against_a_sealed_server(own_mesh: Mesh, tmp_path: Path) -> None:
    """A server that is sealed at our start is no error: there is no issuer until it is not."""
    settings = settings_of(own_mesh)
    await asyncio.to_thread(own_mesh.bao.seal)
    async with driven(PKI, settings, tmp_path) as backend:
        with pytest.raises(NotReady, match="sealed"):
            backend.signer.issuer(utc_now())
        await asyncio.to_thread(own_mesh.bao.unseal)
        await backend.until(ready=True)
        await backend.sign()


async def test_uninitialised_server_says_so(own_mesh: Mesh, tmp_path: Path) -> None:
    """A server that was never initialised is unavailable, and health tells it."""
    fresh = new_server(tmp_path / "fresh")
    fresh.start()
    try:
        assert fresh.health() == UNINITIALISED
        settings = settings_of(own_mesh, address=fresh.url, ca_file=str(fresh.ca_file))
        async with driven(PKI, settings, tmp_path) as backend:
            health = backend.signer.health(utc_now())
    finally:
        fresh.stop()
    assert not health.ready
    assert "sealed" in health.detail or "not initialised" in health.detail


async def test_quota_is_overload_without_a_word_how_long(own_mesh: Mesh, tmp_path: Path) -> None:
    """A rate-limit quota is a 429 without Retry-After: overload, and nothing was issued."""
    quota = f"sys/quotas/rate-limit/{own_mesh.name}"
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        document = {"path": f"{own_mesh.pki}/", "rate": 2, "interval": "1s"}
        own_mesh.bao.write(quota, document)
        try:
            found = [*await asyncio.gather(*(backend.call([backend.errand()]) for _ in range(6)))]
        finally:
            own_mesh.bao.delete(quota)
        assert backend.signer.health(utc_now()).ready
    overloads = [one for (one,) in found if isinstance(one, Overloaded)]
    assert len(overloads) == 4
    assert {one.retry_after_s for one in overloads} == {None}


async def test_revoked_token_is_replaced_by_a_new_login(own_mesh: Mesh, tmp_path: Path) -> None:
    """A revoked token gives 403; the file is read again, and a new token in it signs at once."""
    settings = settings_of(own_mesh)
    async with driven(PKI, settings, tmp_path) as backend:
        await backend.sign()
        await asyncio.sleep(2.1)  # older than a token that was just taken
        old = (own_mesh.folder / "token").read_text()
        own_mesh.bao.write("auth/token/revoke", {"token": old})
        own_mesh.token_file()
        await backend.sign()


async def test_bad_token_is_told_in_words(own_mesh: Mesh, tmp_path: Path) -> None:
    """A token that OpenBao does not know is unavailable, never quoted, and replaced once there."""
    settings = settings_of(own_mesh)
    token = own_mesh.put_token("s.NoSuchTokenAtAll0000000")
    async with driven(PKI, settings, tmp_path) as backend:
        health = backend.signer.health(utc_now())
        assert not health.ready
        assert "OpenBao refuses this token" in health.detail
        assert token.read_text() not in health.detail
        own_mesh.token_file()
        await backend.until(ready=True)


async def test_missing_right_is_told_in_words(own_mesh: Mesh, tmp_path: Path) -> None:
    """A token whose policy does not allow the path: health says which right is missing."""
    own_mesh.bao.policy("nothing", "sys/nothing")
    settings = settings_of(own_mesh)
    own_mesh.put_token(own_mesh.bao.token("nothing"))
    async with driven(PKI, settings, tmp_path) as backend:
        health = backend.signer.health(utc_now())
    assert not health.ready
    assert "expected update" in health.detail


async def test_missing_role_and_mount_are_told(own_mesh: Mesh, tmp_path: Path) -> None:
    """A role that is not there, a mount that is not there: unavailable, with what to do."""
    own_mesh.bao.policy(own_mesh.policy, "*")
    async with driven(PKI, settings_of(own_mesh, role="nobody"), tmp_path) as backend:
        with pytest.raises(BackendUnavailable, match="create it, or name the right one"):
            await backend.sign()
    async with driven(PKI, settings_of(own_mesh, mount="nowhere"), tmp_path) as backend:
        assert "check mount" in backend.signer.health(utc_now()).detail


async def test_issuer_of_another_key_is_followed(own_mesh: Mesh, tmp_path: Path) -> None:
    """Another default issuer under the same root is taken with its first certificate."""
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        first = await backend.sign()
        own_mesh.new_issuer()
        second = await backend.sign()
        third = await backend.sign()
    assert first.issuer.certificate != second.issuer.certificate
    assert second.issuer.generation == first.issuer.generation + 1
    assert third.issuer is second.issuer


async def test_issuer_under_another_root_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """An issuer whose root was never announced signs nothing that leaves."""
    async with driven(PKI, settings_of(own_mesh), tmp_path) as backend:
        await backend.sign()
        own_mesh.bao.write(
            f"{own_mesh.pki}/root/generate/internal",
            {"common_name": "another root", "key_type": "ec", "key_bits": 256, "ttl": "9000h"},
        )
        own_mesh.make_default("another root")
        with pytest.raises(WrongCertificate, match=r"(no root|not) of the bundle"):
            await backend.sign()


async def test_chain_without_root_needs_a_file(own_mesh: Mesh, tmp_path: Path) -> None:
    """A root outside the mount is named by a file; with a stranger's root there nothing signs."""
    root = own_mesh.bao.read(f"{own_mesh.root}/issuer/default/json")["certificate"]
    path = tmp_path / "roots.pem"
    path.write_text(root)
    async with driven(PKI, settings_of(own_mesh, roots_file=str(path)), tmp_path) as backend:
        await backend.sign()
    path.write_text("")
    with pytest.raises(ConfigurationError, match="is empty"):
        async with driven(PKI, settings_of(own_mesh, roots_file=str(path)), tmp_path):
            pass


async def test_namespace_goes_with_every_request(own_mesh: Mesh, tmp_path: Path) -> None:
    """In a namespace of one's own nothing of the root namespace is seen."""
    own_mesh.bao.ask("POST", f"sys/namespaces/{own_mesh.name}", {})
    settings = settings_of(own_mesh, namespace=own_mesh.name)
    async with driven(PKI, settings, tmp_path) as backend:
        assert not backend.signer.health(utc_now()).ready
    settings = settings_of(own_mesh, namespace="nowhere")
    async with driven(PKI, settings, tmp_path) as backend:
        assert not backend.signer.health(utc_now()).ready


async def test_network_that_breaks(own_mesh: Mesh, tmp_path: Path) -> None:
    """A refused connection issued nothing; a lost answer may have, where certificates are kept."""
    own_mesh.role(no_store=False)
    async with proxy_before(own_mesh.bao.address) as proxy:
        settings = settings_of(own_mesh, address=f"https://{proxy.address}", stored=True)
        async with driven(PKI, settings, tmp_path) as backend:
            await backend.sign()
            proxy.cut()
            with pytest.raises(BackendUnavailable):
                await backend.sign()
            proxy.heal()
            await backend.until(ready=True)
            proxy.swallow_answers = True
            lost = backend.errand(number=7)
            (found,) = await backend.call([lost])
            proxy.heal()
            assert isinstance(found, BackendUnavailable)
            assert found.maybe_issued
            await backend.until(ready=True)
            deadline_s = asyncio.get_running_loop().time() + 5.0
            again = await backend.signer.find(lost, deadline_s)
            never = await backend.signer.find(backend.errand(number=8), deadline_s)
            assert again is not None
            backend.check(again, lost.order)
            assert never is None


async def test_answer_that_comes_too_late(own_mesh: Mesh, tmp_path: Path) -> None:
    """A server that hangs is left at the request's deadline."""
    async with proxy_before(own_mesh.bao.address) as proxy:
        settings = settings_of(own_mesh, address=f"https://{proxy.address}")
        async with driven(PKI, settings, tmp_path) as backend:
            proxy.hang()
            begun_s = time.monotonic()
            with pytest.raises(BackendUnavailable, match=r"no (answer within|connection)"):
                await backend.sign(left_s=0.5)
            assert time.monotonic() - begun_s < 1.5
            proxy.heal()
            await backend.until(ready=True)


async def test_stranger_s_certificate_is_not_believed(mesh: Mesh, tmp_path: Path) -> None:
    """A server whose TLS certificate is not of the configured roots gets no token."""
    other = new_server(tmp_path / "other")
    settings = settings_of(mesh, ca_file=str(other.ca_file))
    async with driven(PKI, settings, tmp_path) as backend:
        health = backend.signer.health(utc_now())
    assert not health.ready
    assert "no connection" in health.detail


async def test_examination_says_what_is_there_and_what_is_wrong(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """`check-config --connect` is content with a good role, and names each fault of a bad one."""
    settings = PKI.settings.model_validate(settings_of(own_mesh))
    good = await PKI.examine(settings, surroundings_in(tmp_path))  # type: ignore[arg-type]
    own_mesh.role(use_csr_sans=True, not_after_bound="permit")
    bad = await PKI.examine(settings, surroundings_in(tmp_path))  # type: ignore[arg-type]
    assert [finding.text for finding in good if not finding.good] == []
    assert len(good) == 4
    texts = " ".join(finding.text for finding in bad if not finding.good)
    assert "use_csr_sans is True" in texts
    assert "not_after_bound is 'permit'" in texts


def test_server_s_own_health_is_what_the_table_says(bao: OpenBao) -> None:
    """An active node answers 200 to a health check."""
    assert bao.health() == ACTIVE
