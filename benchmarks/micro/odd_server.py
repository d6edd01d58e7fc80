"""meshsigner with parts that no configuration can take out or change, for measurements alone.

One process, from an ordinary configuration file, like `meshsigner serve` without a
supervisor. Without turns every call is worked on alone and at once. At SIGUSR1 it hands
free memory back (malloc_trim of glibc), which the server itself never does.
"""

import argparse
import ctypes
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from meshsigner.app import server as assembly
from meshsigner.app.parts import issuance_limits_of
from meshsigner.app.process import run
from meshsigner.config import load_config
from meshsigner.config.sections import Limits
from meshsigner.issuance import IssuanceLimits


def without_turns(whole: Callable[[Limits], IssuanceLimits]) -> Callable[[Limits], IssuanceLimits]:
    """Return limits under which no call ever waits for another."""

    def limits_of(section: Limits) -> IssuanceLimits:
        limits = whole(section)
        alone = replace(limits.gather, quiet_rounds=0, turn_members=1, held_members=0)
        return replace(limits, gather=alone)

    return limits_of


def _trim(_number: int, _frame: object) -> None:
    ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="meshsigner's YAML file")
    parser.add_argument("--without-turns", action="store_true", help="each call alone, at once")
    options = parser.parse_args()
    if options.without_turns:
        vars(assembly)["issuance_limits_of"] = without_turns(issuance_limits_of)
    signal.signal(signal.SIGUSR1, _trim)
    run(load_config(options.config))


if __name__ == "__main__":
    main()
