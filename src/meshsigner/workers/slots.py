"""Which place a worker takes, and how large its inventory may grow.

Pure. A place is a number; its inventory is a file of its own, which stays when
its worker ends and is written on by the next one there. There is a place more
than workers, for a worker that is replaced serves until its successor does.
The bounds of all files together never exceed the configured one: a file in use
may grow up to its bound, a file at rest counts as it is.

Source: docs/adr/0016.
"""

from collections.abc import Collection, Mapping


def free_slot(taken: Collection[int]) -> int:
    """Return the lowest number that is not taken."""
    number = 0
    while number in taken:
        number += 1
    return number


def bound_of(
    size_bytes: int,
    *,
    in_use: Collection[int],
    at_rest: Collection[int],
    max_bytes: int,
    workers: int,
) -> int:
    """Return the size bound for the file of a worker that is about to start.

    Args:
        size_bytes: Of its file now.
        in_use: The bounds of the files that other workers write.
        at_rest: The sizes of all other files of this inventory.
        max_bytes: What all files may have together.
        workers: How many workers there are when all run.
    """
    left = max_bytes - sum(in_use) - sum(at_rest) - size_bytes
    shares = max(1, workers + 1 - len(in_use))
    return size_bytes + max(0, left) // shares


def at_rest(sizes: Mapping[int, int], taken: Collection[int]) -> list[int]:
    """Return the sizes of the files whose place is not taken.

    Args:
        sizes: Size of each file by its place.
        taken: Places of workers, that of the one about to start included.
    """
    return [size for number, size in sizes.items() if number not in taken]
