"""Tests of the request for an intermediate CA: any key, read by others as what it is."""

import pytest
from cryptography import x509

from meshsigner.errors import ConfigurationError
from meshsigner.signing.by_hand.keys import FileKey
from meshsigner.signing.by_hand.request import build_request
from meshsigner.spiffe import TrustDomain
from tests.fakes.authority import make_key

DOMAIN = TrustDomain.parse("cluster.local")


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_request_asks_for_an_intermediate(kind: str) -> None:
    """A library reads the request as ours: name, key, signature, and what a CA is."""
    key = FileKey(make_key(kind))
    request = x509.load_pem_x509_csr(build_request(key.public_key, DOMAIN, key.sign))
    assert request.is_signature_valid
    assert request.public_key() == key.public_key
    (organization, name) = (attribute.value for attribute in request.subject)
    assert organization == "cluster.local"
    assert str(name).startswith("meshsigner intermediate ")
    found = {
        extension.oid: (extension.value, extension.critical) for extension in request.extensions
    }
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    assert found.pop(constraints.oid) == (constraints, True)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key)
    assert found.pop(key_id.oid) == (key_id, False)
    ((usage, critical),) = found.values()
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert critical


def test_keys_that_are_no_pair_make_no_request() -> None:
    """A signature that does not verify under the public half is found here, not by people."""
    one, other = FileKey(make_key("p256", 1)), FileKey(make_key("p256", 2))
    with pytest.raises(ConfigurationError, match="does not verify under its public key"):
        build_request(one.public_key, DOMAIN, other.sign)
