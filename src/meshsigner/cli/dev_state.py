"""Everything that a development server makes for itself and keeps across restarts.

Decides what lies where in the state directory and writes the configuration
that uses it; CA, token issuer and inventory are made by those who know how.
"""

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from meshsigner.cli.dev_tokens import ISSUER, TokenIssuer
from meshsigner.config import Config, build_config
from meshsigner.config.fields import Address
from meshsigner.errors import ConfigurationError
from meshsigner.signing.self_made import SelfMadeCa
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import CaFiles, load_directory
from meshsigner.trust.writing import PUBLIC_MODE, write_file

TRUST_DOMAIN = "cluster.local"  # Istio's meshConfig.trustDomain unless set
CLUSTER_ID = "Kubernetes"  # Istio's global.multiCluster.clusterName unless set
SERVER_NAMES = ("localhost", "istiod.istio-system.svc")


class DevState:
    """The state directory of a development server.

    Args:
        directory: Made when it is missing.
        ca_dir: A CA to use instead of a self-made one, in Istio's `cacerts` layout.
    """

    def __init__(self, directory: Path, ca_dir: Path | None = None) -> None:
        self.directory = directory
        self.ca_dir = ca_dir or directory / "ca"
        self._makes_ca = ca_dir is None
        self.root_cert = directory / "root-cert.pem"
        self.jwks = directory / "jwks.json"
        self.token_issuer_key = directory / "token-issuer-key.pem"
        self.inventory = directory / "inventory.db"

    def prepare(self, now: datetime) -> TokenIssuer:
        """Make what is not there yet.

        Args:
            now: The time.

        Returns:
            The development token issuer.

        Raises:
            ConfigurationError: The directory cannot be written, or something
                in it cannot be used.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            ca = self._load_ca(now)
            roots = ca.issuer.trust_bundle.pem.encode()
            write_file(self.root_cert, roots, mode=PUBLIC_MODE)
            return TokenIssuer.load_or_create(self.token_issuer_key, self.jwks)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.directory}: cannot be used ({error}); expected a directory that this user "
                "may write; choose another with --state-dir",
            ) from error

    def _load_ca(self, now: datetime) -> CaFiles:
        if self._makes_ca:
            SelfMadeCa(directory=self.ca_dir, trust_domain=TrustDomain(TRUST_DOMAIN)).ensure(now)
        return load_directory(self.ca_dir, generation=1, now=now)

    def config(self, listen: Address, admin: Address, workers: int = 1) -> Config:
        """Write the configuration of the server that uses this state.

        Args:
            listen: Where workloads ask.
            admin: Where probes ask.
            workers: How many, under a supervisor; a server that is one process has none.

        Raises:
            ConfigurationError: The environment says something that cannot be.
        """
        values = {**self._values(listen, admin), "workers": workers}
        return build_config(values, name="development defaults")

    def _values(self, listen: Address, admin: Address) -> Mapping[str, Any]:
        tokens = {"type": "jwks", "issuer": ISSUER, "jwks_file": self.jwks, "algorithms": ["RS256"]}
        return {
            "trust_domain": TRUST_DOMAIN,
            "clusters": [{"id": CLUSTER_ID, "local": True, "authenticators": [tokens]}],
            "issuer": {"type": "self_made" if self._makes_ca else "directory", "path": self.ca_dir},
            "listen": {
                "address": listen,
                "tls": {
                    "type": "issuer",
                    "dns_names": SERVER_NAMES,
                    "ip_addresses": ["127.0.0.1"],
                    "directory": self.directory / "serving",
                },
            },
            "admin": {"address": admin},
            "inventory": {"path": self.inventory},
            "logging": {"format": "console" if sys.stderr.isatty() else "json"},
        }
