"""For all tests: nothing secret may be said (tests/secret_scan.py)."""

pytest_plugins = ["tests.secret_scan"]
