"""What the garbage collector looks at, once a server is ready (docs/adr/0008)."""

import gc

# Objects made since the last walk of the young, and walks of one generation
# before the next older one is walked. Python's own are 700, 10 and 10: a walk
# every few calls.
THRESHOLDS = (50_000, 20, 50)


def leave_alone_what_stays() -> None:
    """Collect once; never walk again over what is left, and walk less often over the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
