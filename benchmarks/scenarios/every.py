"""All scenarios that have a short form, in the order of their letters."""

from typing import Final

from benchmarks.scenarios.ambient import AMBIENT
from benchmarks.scenarios.churn import CHURN
from benchmarks.scenarios.heal import HEAL
from benchmarks.scenarios.herd import HERD
from benchmarks.scenarios.overload import OVERLOAD
from benchmarks.scenarios.poisoned import POISON
from benchmarks.scenarios.renewals import RENEWALS
from benchmarks.scenarios.rotation import ROTATION
from benchmarks.scenarios.warm import WARM

EVERY: Final = (WARM, CHURN, AMBIENT, HERD, OVERLOAD, ROTATION, POISON, RENEWALS, HEAL)
