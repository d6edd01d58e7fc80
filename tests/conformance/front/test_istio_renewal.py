"""Istio's own client as a VM's agent has it (PROV_CERT): a token first, then its certificate alone.

One address serves both through Envoy; the server's own port for certificates takes the same files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.front.installation import Front, front
from tests.conformance.istio_client import CaseReport, IstioClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """A virtual machine that was provisioned.

    Attributes:
        front: Where it renews.
        roots: PEM of what the proxy's certificate chains to.
        directory: Its PROV_CERT.
        token: Its first token.
    """

    front: Front
    roots: Path
    directory: Path
    token: Path

    def run(
        self, case: str, *options: str, server: str = "", root: Path | None = None
    ) -> CaseReport:
        """Run a case of Istio's client at the proxy, or at another address."""
        client = IstioClient(
            server=server or self.front.address,
            root=root or self.roots,
            tokens={"valid": self.token},
        )
        return client.run(case, options=options)[case]

    @property
    def shown(self) -> tuple[str, str]:
        """Flags that let the client show what it has."""
        key, chain = self.directory / "key.pem", self.directory / "cert-chain.pem"
        return f"-client-key={key}", f"-client-chain={chain}"


@pytest.fixture(scope="module")
def vm(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """Provision a VM by token through the proxy."""
    with front(command) as running:
        folder = tmp_path_factory.mktemp("vm")
        roots, token = folder / "roots.pem", folder / "token"
        roots.write_bytes(running.serving_roots)
        token.write_text(running.server.installation.token("vm"))
        made = Vm(front=running, roots=roots, directory=folder, token=token)
        report = made.run("provision", f"-out={folder}")
        assert report.ok, report
        yield made


def test_the_agent_renews_by_certificate_through_the_proxy(vm: Vm) -> None:
    """At the address where it began, with no token any more."""
    report = vm.run("renew-by-certificate", *vm.shown)
    assert report.ok, report
    assert report.attempts == 1


def test_the_agent_renews_by_certificate_at_the_servers_own_port(vm: Vm) -> None:
    """Without a proxy, where it knows that address."""
    root = vm.directory / "mesh-root.pem"
    root.write_bytes(vm.front.root.pem)
    report = vm.run("renew-by-certificate", *vm.shown, server=vm.front.mutual, root=root)
    assert report.ok, report


def test_a_denied_agent_gives_up_at_once(vm: Vm) -> None:
    """The identity is denied: UNAUTHENTICATED, which Istio's client does not try again."""
    denied = vm.front.directory / "denied"
    denied.write_text("spiffe://cluster.local/ns/foo/sa/vm\n")
    reports: list[CaseReport] = []

    def refused() -> bool:
        reports.append(vm.run("refuse-by-certificate", *vm.shown))
        return reports[-1].ok

    vm.front.envoy.wait(refused, "a client refused")
    assert (reports[-1].code, reports[-1].attempts) == ("Unauthenticated", 1)
    assert reports[-1].message == "request authenticate failure"
