"""What the commands' exit codes mean; each command's help shows its own."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of all commands."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    REFUSED = 4
    UNAVAILABLE = 5
    WRONG_ANSWER = 6


_MEANINGS = {
    Exit.DONE: "done",
    Exit.BUG: "an error that nobody foresaw; please report it",
    Exit.USAGE: "wrong command line",
    Exit.INPUT: "wrong configuration, or a file that cannot be read or written",
    Exit.REFUSED: "refused: the same call will be refused again",
    Exit.UNAVAILABLE: "a server or port is not available now: try again",
    Exit.WRONG_ANSWER: "the server's answer fails its check",
}


def exit_codes(*codes: Exit) -> str:
    """Write the paragraph on exit codes of a command's help.

    Args:
        codes: Codes beside 0 and 2 that this command ends with.
    """
    shown = sorted({Exit.DONE, Exit.USAGE, *codes})
    return "Exit codes: " + "; ".join(f"{code.value} {_MEANINGS[code]}" for code in shown) + "."
