"""A certificate as files: for programs that read files, and over a restart of the agent.

Istio's names (OUTPUT_CERTS): key.pem, cert-chain.pem, root-cert.pem. All three
change at once, so that key and certificate always belong together; how that is
done is passed in. What is read back is checked like a CA's answer: a file that
was tampered with, or is another's, is no reason to serve anything.

Source: istio security/pkg/nodeagent/util/util.go OutputKeyCertToDir.
"""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshsigner.agent.answer import WrongAnswer, check_answer
from meshsigner.agent.keys import PrivateKey
from meshsigner.agent.life import svid_of
from meshsigner.agent.secrets import Svid
from meshsigner.errors import UNREADABLE_X509
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.spiffe import SpiffeId

KEY, CHAIN, ROOTS = "key.pem", "cert-chain.pem", "root-cert.pem"
_KEY_MODE, _PUBLIC_MODE = 0o600, 0o644

Swap = Callable[[Path, Mapping[str, tuple[bytes, int]]], None]


class OutputFiles:
    """Keeps one workload's certificate in a directory.

    Args:
        directory: Made when it is not there.
        identity: Whose certificate it must be to be read back.
        swap: Writes a set of files at once: data and mode by name.
    """

    def __init__(self, directory: Path, identity: SpiffeId, swap: Swap) -> None:
        self._directory = directory
        self._identity = identity
        self._swap = swap

    def keep(self, svid: Svid) -> None:
        """Write the files.

        Raises:
            OSError: They cannot be written; what was there is untouched.
        """
        files = {
            KEY: (svid.key_pem, _KEY_MODE),
            # With the roots at its end, as istio-agent writes it.
            CHAIN: (svid.chain_pem + svid.roots_pem, _PUBLIC_MODE),
            ROOTS: (svid.roots_pem, _PUBLIC_MODE),
        }
        self._swap(self._directory, files)

    def restore(self, now: datetime) -> Svid | None:
        """Read back what was kept.

        Args:
            now: Time at which it must be valid.

        Returns:
            It, or None when there is nothing, or nothing to be served; the log
            says why not.
        """
        if not (self._directory / KEY).exists():
            return None
        try:
            return self._read(now)
        except (OSError, WrongAnswer, *UNREADABLE_X509) as error:
            get_logger().warning(
                Event.CERTIFICATE_NOT_RESTORED,
                directory=str(self._directory),
                identity=str(self._identity),
                cause=str(error),
            )
            return None

    def _read(self, now: datetime) -> Svid:
        owner = (self._directory / KEY).stat().st_uid
        if owner != os.geteuid():
            raise WrongAnswer(f"{KEY} belongs to user {owner}")
        key = load_pem_private_key((self._directory / KEY).read_bytes(), None)
        if not isinstance(key, PrivateKey):
            raise WrongAnswer(f"{KEY} holds a key of a kind that the agent does not make")
        chain = ((self._directory / CHAIN).read_text(), (self._directory / ROOTS).read_text())
        answer = check_answer(chain, key.public_key(), str(self._identity), now)
        # As if it had come when it became valid: a little earlier than it did.
        return svid_of(answer, key, _start(answer.leaf))


def _start(leaf: x509.Certificate) -> datetime:
    return leaf.not_valid_before_utc
