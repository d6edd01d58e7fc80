"""A million mixed requests through batches: whatever comes together, everyone gets their own.

Three clusters with a token issuer each; RSA-2048, P-256 and P-384 keys; fifty namespaces;
wrong CSRs, wrong tokens, and tokens shown under another cluster's id, all at once over
warm connections, so that turns are large and as mixed as they can be.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.load.keys import KeyType
from benchmarks.load.loads import CallSlice, Closed, Load, Warm
from benchmarks.load.tokens import TokenIssuer
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.mesh import load_token_issuer, public_keys
from benchmarks.scenarios.poison import Spoil, all_kinds, stranger
from benchmarks.scenarios.scenario import Scenario

_REQUESTS: Final = 1_000_000
_BATCH: Final = 50_000
_IN_FLIGHT: Final = 64
_CONNECTIONS: Final = 4
_DISTINCT_BATCHES: Final = 2
"""Requests of so many batches are prepared; later batches send them again, each time for
new certificates, in another company."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of request in the mix.

    Args:
        name: For the report.
        cluster: The `clusterid` that it sends.
        csr: Kind of its keys.
        share: Its share of all requests.
        calls: Its requests, of all prepared batches.
    """

    name: str
    cluster: str
    csr: KeyType
    share: float
    calls: CallSlice

    def load(self, lab: Lab, batch: int, size: int) -> Load:
        """Return its load in one batch."""
        count = round(size * self.share)
        start = count * (batch % max(self.calls.count // count, 1))
        calls = self.calls.part(start, min(count, self.calls.count - start))
        way = Warm(connections=_CONNECTIONS)
        load = lab.load(self.name, calls, Closed(in_flight=_IN_FLIGHT), way, drivers=1)
        return replace(load, server=replace(load.server, cluster_id=self.cluster))


def run(lab: Lab) -> None:
    """Measure."""
    total = lab.settings.total or _REQUESTS
    size = min(_BATCH, total)
    issuers = {name: _issuer(lab.settings.cache, name) for name in ("east", "west", "north")}
    parts = _parts(lab, issuers, min(_DISTINCT_BATCHES * size, total))
    clusters = [_cluster(lab, *item) for item in issuers.items()]
    # Nobody is to be shed here, however slow the machine: an answer is compared with what is due.
    with lab.server(clusters=clusters, limits={"queue_wait": "9s"}):
        asked = granted = wrong = 0
        for batch in range(-(-total // size)):
            loads = [part.load(lab, batch, size) for part in parts]
            books = lab.measure(f"batch {batch + 1}", loads).ledgers
            asked += sum(ledger.ended for ledger in books)
            granted += sum(ledger.right for ledger in books)
            wrong += sum(ledger.unexpected for ledger in books)
        lab.figure("requests", asked, "")
        lab.figure("certificates", granted, "")
        lab.check("every request got the status that is due", f"{wrong} did not", holds=not wrong)
        lab.check_inventory()


def _parts(lab: Lab, issuers: dict[str, TokenIssuer], count: int) -> list[Part]:
    def part(
        name: str, cluster: str, csr: KeyType, share: float, spoil: Spoil | None = None
    ) -> Part:
        prepared = lab.calls_of(issuers[cluster], f"mixed-{name}", round(count * share), csr, spoil)
        return Part(name=name, cluster=cluster, csr=csr, share=share, calls=prepared)

    other = stranger(issuers["west"])
    return [
        part("rsa", "east", "rsa2048", 0.45),
        part("p256", "west", "p256", 0.25),
        part("p384", "north", "p384", 0.2),
        part("wrong", "east", "rsa2048", 0.05, all_kinds(issuers["east"])),
        part("other-clusters-token", "north", "p256", 0.05, other),
    ]


def _issuer(cache: Path, name: str) -> TokenIssuer:
    return load_token_issuer(cache / f"token-issuer-{name}.pem", make=True, key_id=name)


def _cluster(lab: Lab, name: str, issuer: TokenIssuer) -> dict[str, Any]:
    """Return a cluster's configuration; all clusters are of one mesh and trust domain."""
    file = lab.settings.work / f"jwks-{name}.json"
    file.write_text(json.dumps(public_keys(issuer)))
    tokens = {"type": "jwks", "issuer": issuer.issuer, "jwks_file": str(file)}
    return {"id": name, "authenticators": [tokens]}


MIXED: Final = Scenario(
    name="mixed",
    title="Mixed requests of three clusters through batches",
    help="--total mixed requests (a million by default): good, wrong, of three clusters.",
    run=run,
    workers=2,
)
