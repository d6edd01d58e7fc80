"""What stays is left alone by the garbage collector, what comes later is still collected."""

import subprocess
import sys

_PROGRAM = """
import gc
from meshsigner.app.collector import THRESHOLDS, leave_alone_what_stays

class Knot:
    freed = 0
    def __init__(self):
        self.me = self
    def __del__(self):
        Knot.freed += 1

leave_alone_what_stays()
assert gc.get_threshold() == THRESHOLDS
assert gc.get_freeze_count() > 1_000
for _ in range(200_000):
    Knot()
assert Knot.freed > 100_000, Knot.freed
"""


def test_what_stays_is_frozen_and_new_cycles_are_freed() -> None:
    """After the call nothing old is walked again, and cycles made since go by themselves."""
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=60)
