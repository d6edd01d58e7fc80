"""`meshsigner version`: what runs here."""

import platform
from importlib.metadata import version as installed

from meshsigner import __version__
from meshsigner.cli.exits import exit_codes
from meshsigner.cli.options import Json
from meshsigner.cli.terminal import say, say_fields, say_json

_LIBRARIES = ("grpcio", "cryptography", "pydantic", "uvloop")


HELP = f"""Print the versions of meshsigner and of what its security rests on.

Example:

    meshsigner version --json

{exit_codes()}
"""


def version(*, json: Json = False) -> None:
    """Print versions."""
    found = {"meshsigner": __version__, "python": platform.python_version()}
    found |= {name: installed(name) for name in _LIBRARIES}
    if json:
        say_json(found)
        return
    say(f"meshsigner {__version__}")
    say_fields(list(found.items())[1:])
