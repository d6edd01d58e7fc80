"""meshsigner: an Istio-compatible certificate signing server.

Read `model` (values), `ports` (what can be plugged in) and `issuance` (the
order of work); everything else is a decision or a plug. docs/ARCHITECTURE.md
draws it.
"""

__version__ = "0.1.0"
