"""The section about client certificates."""

from typing import Any

import pytest
from pydantic import ValidationError

from meshsigner.config.client_certificates import ClientCertificates
from meshsigner.config.fields import Address
from meshsigner.spiffe import SpiffeId

_PROXY = "spiffe://cluster.local/ns/istio-system/sa/proxy"


def _section(**content: Any) -> ClientCertificates:
    return ClientCertificates.model_validate(content)


def test_a_port_for_clients_with_certificates() -> None:
    """Its address is all it takes."""
    section = _section(mutual_tls={"address": "0.0.0.0:15013"})
    assert section.addresses == (Address("0.0.0.0", 15013),)  # noqa: S104 - compared alone
    assert section.forwarded is None


def test_a_socket_for_a_proxy() -> None:
    """It takes no port."""
    section = _section(forwarded={"type": "unix"})
    assert section.addresses == ()


def test_a_port_for_a_proxy_names_the_proxy() -> None:
    """Without its name any workload could say who its client is."""
    address = "127.0.0.1:15016"
    section = _section(forwarded={"type": "mutual_tls", "address": address, "proxy": _PROXY})
    assert section.forwarded.proxy == SpiffeId.parse(_PROXY)  # type: ignore[union-attr]
    assert section.addresses == (Address("127.0.0.1", 15016),)
    with pytest.raises(ValidationError, match="proxy"):
        _section(forwarded={"type": "mutual_tls", "address": address})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "mutual_tls or forwarded"),
        ({"denied": "/etc/denied"}, "mutual_tls or forwarded"),
        ({"mutual_tls": {"address": "0.0.0.0:0"}}, "from 1 to 65535"),
        ({"forwarded": {"type": "unix"}, "namespaces": []}, "at least 1 item"),
        ({"forwarded": {"type": "unix"}, "namespaces": ["Vms"]}, "a Kubernetes namespace"),
        (
            {"forwarded": {"type": "mutual_tls", "address": "a:1", "proxy": "proxy"}},
            "a SPIFFE ID, for example",
        ),
    ],
)
def test_what_is_incomplete_is_refused(content: dict[str, Any], problem: str) -> None:
    """In words that say what is expected."""
    with pytest.raises(ValidationError, match=problem):
        _section(**content)
