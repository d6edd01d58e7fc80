"""In which order the workers stand in the kernel's group of listeners on their port.

Pure. The kernel puts a listener that joins at the end and moves the last one to
the place of one that leaves. That is all that is known: should two workers die
in the same instant, the order may be taken wrongly, and the next replacement
resets some connections in their handshake, which clients open again.

Source: Linux net/core/sock_reuseport.c (reuseport_add_sock,
__reuseport_detach_sock).
"""


class PortOrder:
    """The numbers of the workers that listen, in the kernel's order."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def joined(self, number: int) -> None:
        """Note that a worker listens."""
        self._numbers.append(number)

    def left(self, number: int) -> None:
        """Note that a worker listens no more; one that never did is ignored."""
        if number in self._numbers:
            place = self._numbers.index(number)
            last = self._numbers.pop()
            if last != number:
                self._numbers[place] = last

    def others(self, number: int) -> tuple[int, ...]:
        """Return the places of all workers but one."""
        return tuple(place for place, one in enumerate(self._numbers) if one != number)
