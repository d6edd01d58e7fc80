"""`meshsigner backends` and `check-config --connect`."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from meshsigner.cli.exits import Exit
from tests.fakes.authority import make_ca, write_cacerts

Run = Callable[..., Result]


def _config(folder: Path, ca: Path) -> Path:
    path = folder / "meshsigner.yaml"
    path.write_text(
        "trust_domain: cluster.local\nclusters: [{id: Kubernetes}]\n"
        "listen: {tls: {type: files, certificate: /a, key: /b}}\n"
        f"backends: {{near: {{type: directory, path: {ca}}}}}\n"
    )
    return path


def test_kinds_are_listed_with_package_and_options(run: Run) -> None:
    """Each installed kind is told with what it is, who brings it, and its settings."""
    text = run("backends").stdout
    assert "self_made: a root and an intermediate that the server makes" in text
    assert "(meshsigner " in text
    assert "intermediate_lifetime: " in text
    kinds = json.loads(run("backends", "--json").stdout)
    assert {"directory", "self_made"} <= {kind["type"] for kind in kinds}


def test_a_good_backend_is_told_with_what_is_there(run: Run, tmp_path: Path) -> None:
    """A CA that can sign is named, and the exit code is 0."""
    root = make_ca("root")
    issuer = make_ca("issuer", issuer=root)
    write_cacerts(tmp_path / "ca", issuer, chain=[issuer, root], roots=[root])
    path = _config(tmp_path, tmp_path / "ca")
    for command in (("check-config", path, "--connect"), ("backends", "--config", path)):
        text = run(*command).stdout
        assert text.startswith("near (directory): can sign")
        assert "CN=issuer" in text


def test_what_is_missing_is_told_in_words(run: Run, tmp_path: Path) -> None:
    """A backend that cannot sign is told with every problem, and the exit code says so."""
    path = _config(tmp_path, tmp_path / "nothing")
    result = run("check-config", path, "--connect", "--json", code=Exit.INPUT)
    (found,) = json.loads(result.stdout)
    assert (found["name"], found["ready"]) == ("near", False)
    assert found["findings"][0].startswith("PROBLEM: ")
    assert "nothing" in found["findings"][0]


def test_a_self_made_ca_that_is_not_there_yet_is_made_at_the_start(
    run: Run, tmp_path: Path
) -> None:
    """To look at a self-made CA makes nothing."""
    path = tmp_path / "meshsigner.yaml"
    path.write_text(
        "trust_domain: cluster.local\nclusters: [{id: Kubernetes}]\n"
        "listen: {tls: {type: issuer, dns_names: [a.svc]}}\n"
        f"issuer: {{type: self_made, path: {tmp_path}/ca}}\n"
    )
    text = run("backends", "--config", path).stdout
    assert text.startswith("embedded (self_made): can sign")
    assert not (tmp_path / "ca").exists()
