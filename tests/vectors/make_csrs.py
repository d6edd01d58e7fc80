"""Writes csr/*.pem and csr/index.json, or says where they differ from what it would write.

    python -m tests.vectors.make_csrs            write everything anew
    python -m tests.vectors.make_csrs --check    exit 1 on any difference

Requests above the size that a server accepts are not kept as files: the tests
make them, and the index holds their digest.
"""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path

from tests.vectors import cases_form, cases_keys, cases_names
from tests.vectors.case import Case

FOLDER = Path(__file__).parent / "csr"
KEPT_BYTES = 65_536  # a larger request is made when it is needed


@cache
def all_cases() -> tuple[Case, ...]:
    """Return every test request, by name."""
    found = [*cases_names.cases(), *cases_keys.cases(), *cases_form.cases()]
    return tuple(sorted(found, key=lambda case: case.name))


def rendered(cases: tuple[Case, ...]) -> dict[str, bytes]:
    """Return what csr/ should hold, by file name."""
    files = {f"{case.name}.pem": case.csr for case in cases if len(case.csr) <= KEPT_BYTES}
    index = json.dumps([_entry(case) for case in cases], indent=1) + "\n"
    return {**files, "index.json": index.encode()}


def differences(folder: Path) -> list[str]:
    """Name every file that is missing, left over or different."""
    wanted = rendered(all_cases())
    held = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return sorted(name for name in wanted | held if wanted.get(name) != held.get(name))


def _entry(case: Case) -> dict[str, str]:
    return {
        "name": case.name,
        "file": f"{case.name}.pem" if len(case.csr) <= KEPT_BYTES else "",
        "sha256": hashlib.sha256(case.csr).hexdigest(),
        "verdict": case.verdict,
        "reason": case.reason,
        "source": case.source,
        "possession": case.possession,
    }


def _write(folder: Path) -> None:
    for path in folder.glob("*.pem"):
        path.unlink()
    for name, content in rendered(all_cases()).items():
        (folder / name).write_bytes(content)


def main(arguments: list[str]) -> int:
    """Write the files, or check them with `--check`."""
    if arguments == ["--check"]:
        different = differences(FOLDER)
        sys.stdout.writelines(f"differs: {name}\n" for name in different)
        return bool(different)
    _write(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
