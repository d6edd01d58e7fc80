"""Which tests answer for which mutated module."""

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CSRS = ("tests/vectors/test_csrs.py", "tests/vectors/test_recorded.py")
_VALUES = "tests/unit/test_values.py"
_SUITES = {
    "csr.py": ("tests/unit/test_csr.py", *_CSRS, "tests/property/test_csr.py"),
    "policy.py": ("tests/unit/test_policy.py", *_CSRS, _VALUES),
    "profile.py": (
        *("tests/unit/test_profile.py", _VALUES),
        *("tests/property/test_profile.py", "tests/vectors/test_recorded.py"),
    ),
    "verify.py": (
        *("tests/unit/test_verify.py", _VALUES),
        *("tests/property/test_verify.py", "tests/vectors/test_recorded.py"),
    ),
    "spiffe.py": (_VALUES, "tests/unit/test_spiffe.py", "tests/property/test_spiffe.py"),
}
_AUTHN = (
    _VALUES,
    "tests/unit/authn",
    "tests/property/test_tokens.py",
    "tests/vectors/test_tokens.py",
)


def suite_of(file: str) -> Sequence[str]:
    """Return the tests that a change in a file must not pass.

    Args:
        file: Path under src/meshsigner.
    """
    folder, _, name = file.rpartition("/")
    if not folder:
        return _SUITES[name]
    own = f"tests/unit/{folder}/test_{name}"  # the file's own test first: it is the likeliest
    return (own, *_AUTHN) if (ROOT / own).exists() else _AUTHN
