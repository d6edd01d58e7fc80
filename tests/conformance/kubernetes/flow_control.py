"""Has an API server turn a user away with 429, by its own priority and fairness.

Source: Kubernetes flowcontrol.apiserver.k8s.io/v1.
"""

import contextlib
from collections.abc import Iterator

from tests.conformance.kubernetes.admin import Admin

FLOW_CONTROL = "/apis/flowcontrol.apiserver.k8s.io/v1"
NAME = "turned-away"


@contextlib.contextmanager
def turned_away(admin: Admin, user: str) -> Iterator[None]:
    """Have all but one of a user's requests at once refused with 429 for the length of a block.

    A level without seats still lets one request through at a time.
    """
    level = {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 0,
            "lendablePercent": 0,
            "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        },
    }
    admin.create(
        f"{FLOW_CONTROL}/prioritylevelconfigurations", {"metadata": {"name": NAME}, "spec": level}
    )
    subject = {"kind": "User", "user": {"name": user}}
    everything = {
        "verbs": ["*"],
        "apiGroups": ["*"],
        "resources": ["*"],
        "namespaces": ["*"],
        "clusterScope": True,
    }
    admin.create(
        f"{FLOW_CONTROL}/flowschemas",
        {
            "metadata": {"name": NAME},
            "spec": {
                "priorityLevelConfiguration": {"name": NAME},
                "matchingPrecedence": 2,  # 1 is taken by the one that exempts administrators
                "rules": [{"subjects": [subject], "resourceRules": [everything]}],
            },
        },
    )
    try:
        yield
    finally:
        admin.delete(f"{FLOW_CONTROL}/flowschemas/{NAME}")
        admin.delete(f"{FLOW_CONTROL}/prioritylevelconfigurations/{NAME}")
