"""Tests of gathering problems and remarks."""

from pathlib import Path

from meshsigner.trust.findings import Findings


def test_each_text_is_told_with_its_place() -> None:
    """Several texts of one place become sentences of their own, in order."""
    findings = Findings()
    findings.problem(Path("/a"), "one", "two")
    findings.warn("b", "three")
    assert findings.problems == ["/a: one", "/a: two"]
    assert findings.warnings == ["b: three"]


def test_looks_are_added_up() -> None:
    """What another look found comes behind what is there."""
    findings, other = Findings(), Findings()
    findings.problem("a", "one")
    other.problem("b", "two")
    other.warn("c", "three")
    findings.add(other)
    assert (findings.problems, findings.warnings) == (["a: one", "b: two"], ["c: three"])
