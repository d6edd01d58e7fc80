"""What a server must know that is one of several workers on a port."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A worker's place among the others; made by the supervisor.

    Attributes:
        number: Tells it apart: in its log lines, its figures, its inventory's name.
        policy_generation: Of the configuration it gets: the same in all workers.
        roots_pem: Roots that the others hand out, the one in use first; empty
            while there are no others.
    """

    number: int
    policy_generation: int
    roots_pem: bytes = b""
