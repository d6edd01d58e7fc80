"""What a new configuration asks of a running server of several workers.

Pure. Policy and logging are taken in place. What a worker builds at its start
is taken by replacing workers one after the other. What all workers must agree
on at every moment, or what the supervisor itself holds, waits for a restart of
the whole: two CAs must never share a port, not even for the seconds that
replacing takes (docs/adr/0015).
"""

from dataclasses import dataclass

from meshsigner.config import Config

IN_PLACE = frozenset({"policy", "logging"})
BY_REPLACEMENT = frozenset({"clusters", "limits", "remote_clusters", "workers"})
BY_RESTART = frozenset(
    {
        "admin",
        "backends",
        "client_certificates",
        "controllers",
        "inventory",
        "issuer",
        "trust_domain",
    }
)
# `listen` is divided: the address is held by the supervisor, the certificate is a worker's.


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs, by how it is taken.

    Attributes:
        replace: Settings for which workers are replaced.
        restart: Settings that stay as they are until the next start.
    """

    replace: tuple[str, ...]
    restart: tuple[str, ...]


def changes_between(old: Config, new: Config) -> Changes:
    """Compare two configurations."""
    differ = {name for name in Config.model_fields if getattr(old, name) != getattr(new, name)}
    replace, restart = differ & BY_REPLACEMENT, differ & BY_RESTART
    if old.listen.tls != new.listen.tls:
        replace |= {"listen.tls"}
    if old.listen.address != new.listen.address:
        restart |= {"listen.address"}
    return Changes(replace=tuple(sorted(replace)), restart=tuple(sorted(restart)))


def taken_from(old: Config, new: Config) -> Config:
    """Return what is in effect afterwards: the new one, but for what waits for a restart."""
    kept = {name: getattr(old, name) for name in BY_RESTART}
    listen = new.listen.model_copy(update={"address": old.listen.address})
    return new.model_copy(update={**kept, "listen": listen})
