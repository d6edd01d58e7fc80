"""What a new configuration asks of running workers."""

from typing import Any

import pytest

from meshsigner.config import Config, build_config
from meshsigner.workers.changes import (
    BY_REPLACEMENT,
    BY_RESTART,
    IN_PLACE,
    changes_between,
    taken_from,
)

VALUES: dict[str, Any] = {
    "trust_domain": "cluster.local",
    "clusters": [{"id": "a"}],
    "issuer": {"type": "directory", "path": "ca"},
    "listen": {"address": "127.0.0.1:15012", "tls": {"type": "issuer", "dns_names": ["a"]}},
    "workers": 2,
}


def _config(**changes: object) -> Config:
    return build_config({**VALUES, **changes}, name="test")


def _listen(address: str, name: str) -> dict[str, object]:
    return {"address": address, "tls": {"type": "issuer", "dns_names": [name]}}


def test_every_setting_is_taken_in_one_way() -> None:
    """No section is forgotten, none stands in two lists."""
    ways = [IN_PLACE, BY_REPLACEMENT, BY_RESTART, {"listen"}]
    assert sorted(name for way in ways for name in way) == sorted(Config.model_fields)


@pytest.mark.parametrize(
    ("changes", "replace", "restart"),
    [
        ({}, (), ()),
        ({"policy": {"backdate": "1m"}, "logging": {"level": "error"}}, (), ()),
        ({"limits": {"parked": 7}, "clusters": [{"id": "b"}]}, ("clusters", "limits"), ()),
        ({"workers": 3}, ("workers",), ()),
        ({"listen": _listen("127.0.0.1:15012", "b")}, ("listen.tls",), ()),
        ({"listen": _listen("127.0.0.1:1", "a")}, (), ("listen.address",)),
        ({"issuer": {"type": "directory", "path": "other"}}, (), ("issuer",)),
        ({"trust_domain": "x", "admin": {"address": ":1"}}, (), ("admin", "trust_domain")),
    ],
)
def test_way_of_each_change(
    changes: dict[str, object], replace: tuple[str, ...], restart: tuple[str, ...]
) -> None:
    """In place, by replacing workers, or not before a restart."""
    found = changes_between(_config(), _config(**changes))
    assert (found.replace, found.restart) == (replace, restart)


def test_what_waits_stays_as_it_was() -> None:
    """Workers that are replaced get the new settings, but for those that wait for a restart."""
    new = _config(
        issuer={"type": "directory", "path": "other"},
        listen=_listen("127.0.0.1:1", "b"),
        limits={"parked": 7},
    )
    taken = taken_from(_config(), new)
    assert taken.limits == new.limits
    assert taken.listen.tls == new.listen.tls
    assert taken.issuer == _config().issuer
    assert str(taken.listen.address) == "127.0.0.1:15012"
