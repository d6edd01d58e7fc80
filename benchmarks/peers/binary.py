"""Istio's certificate authority as a program: built like the conformance tier's Go programs."""

from pathlib import Path
from typing import Final

from tests.conformance.go_binary import GoBinary

ISTIO_CA: Final = GoBinary(name="istio-ca", module=Path(__file__).with_name("istio_ca"))
